import { availableParallelism } from "node:os"
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config"

import { findMachine } from "./scripts/machine.ts"

const machine = findMachine(process.env)

type Project = { name: string; timeout: number; sequential?: boolean; postgres?: boolean }

/** Projects run one after the other: on two cores, timing tests beside busy neighbours would measure the neighbours. */
function project(
  order: number,
  { name, timeout, sequential = false, postgres = false }: Project,
): TestProjectInlineConfiguration {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      pool: "forks",
      testTimeout: timeout,
      hookTimeout: timeout,
      fileParallelism: !sequential,
      globalSetup: postgres ? ["test/postgres-setup.ts"] : [],
      sequence: { groupOrder: order },
      env: {
        TEST_REDIS_SERVER: machine.redisServer ?? "",
        TEST_PSQL: machine.psql ?? "",
        TEST_CHROMIUM: machine.chromium ?? "",
      },
    },
  }
}

const projects: Project[] = [
  { name: "unit", timeout: 30_000 },
  { name: "lint", timeout: 60_000, sequential: true },
  { name: "integration", timeout: 30_000, postgres: true },
  { name: "e2e", timeout: 60_000, postgres: true },
  { name: "page", timeout: 60_000, sequential: true },
  { name: "chaos", timeout: 120_000, sequential: true },
]

/** Vitest leaves one core free, which of two is half: files wait for servers and messages more than they compute. */
const maxWorkers = Math.max(2, availableParallelism() - 1)

// Vitest asks for a default export.
export default defineConfig({ test: { maxWorkers, projects: projects.map((each, order) => project(order, each)) } })
