import type { TestProject } from "vitest/node"

import { startPostgres, unsynced } from "../playground/postgres.ts"

declare module "vitest" {
  export interface ProvidedContext {
    /** Connection string of an empty maintenance database; tests create their own beside it. */
    postgresUrl: string
  }
}

/** One embedded Postgres for a project's files; Vitest calls this only when the project has tests to run. */
export function setup(project: TestProject): Promise<() => Promise<void>> {
  return startFor(project, null)
}

/** `server`: the folder that holds its `bin`; null: the package's. */
export async function startFor(project: TestProject, server: string | null): Promise<() => Promise<void>> {
  const postgres = await startPostgres({ flags: unsynced, server })
  project.provide("postgresUrl", postgres.url())
  return async () => {
    await postgres.stop()
  }
}
