import { availableParallelism } from "node:os"
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config"

import { findMachine } from "./scripts/machine.ts"

const machine = findMachine(process.env)

const cores = Math.max(2, availableParallelism())
/** Files that wait for servers and messages more than they compute: with one for each core a third of them stands idle. */
const waiting = cores + 1

type Project = { name: string; timeout: number; workers?: number; postgres?: boolean }

/** Projects run one after the other: on two cores, timing tests beside busy neighbours would measure the neighbours. */
function project(
  order: number,
  { name, timeout, workers = cores, postgres = false }: Project,
): TestProjectInlineConfiguration {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      pool: "forks",
      testTimeout: timeout,
      hookTimeout: timeout,
      maxWorkers: workers,
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
  { name: "lint", timeout: 60_000, workers: 1 },
  { name: "integration", timeout: 30_000, workers: waiting, postgres: true },
  { name: "e2e", timeout: 60_000, workers: waiting, postgres: true },
  { name: "page", timeout: 60_000, workers: 1 },
  { name: "chaos", timeout: 300_000, workers: waiting },
  { name: "storm", timeout: 300_000, workers: 1 },
]

// Vitest asks for a default export.
export default defineConfig({ test: { projects: projects.map((each, order) => project(order, each)) } })
