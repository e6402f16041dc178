import { availableParallelism } from "node:os"
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config"

import { findMachine } from "./scripts/machine.ts"

const machine = findMachine(process.env)

const cores = Math.max(2, availableParallelism())
/** Files that wait for servers and messages more than they compute: with one for each core a third of them stands idle. */
const waiting = cores + 1

type Project = { name: string; timeout: number; workers?: number; setup?: string; include?: string[] }

/** Projects run one after the other: on two cores, timing tests beside busy neighbours would measure the neighbours. */
function project(
  order: number,
  { name, timeout, workers = cores, setup, include = [`test/${name}/**/*.test.ts`] }: Project,
): TestProjectInlineConfiguration {
  return {
    test: {
      name,
      include,
      pool: "forks",
      testTimeout: timeout,
      hookTimeout: timeout,
      maxWorkers: workers,
      globalSetup: setup ? [setup] : [],
      sequence: { groupOrder: order },
      env: {
        TEST_REDIS_SERVER: machine.redisServer ?? "",
        TEST_PSQL: machine.psql ?? "",
        TEST_CHROMIUM: machine.chromium ?? "",
      },
    },
  }
}

const setup = "test/postgres-setup.ts"
/** What steps do to a target, once more on the server that a distribution builds: another version, with other libraries. */
const onTargets = ["purge", "undo", "restore", "steps", "page-images", "target-"]

const projects: Project[] = [
  { name: "unit", timeout: 30_000 },
  { name: "lint", timeout: 60_000, workers: 1 },
  { name: "integration", timeout: 30_000, workers: waiting, setup },
  {
    name: "distribution",
    timeout: 30_000,
    workers: waiting,
    setup: "test/distribution-setup.ts",
    include: onTargets.map((start) => `test/integration/${start}*.test.ts`),
  },
  { name: "e2e", timeout: 60_000, workers: waiting, setup },
  { name: "page", timeout: 60_000, workers: 1 },
  { name: "chaos", timeout: 300_000, workers: waiting },
  { name: "storm", timeout: 300_000, workers: 1 },
]

// Vitest asks for a default export.
export default defineConfig({ test: { projects: projects.map((each, order) => project(order, each)) } })
