import type { TestProject } from "vitest/node"

import { startPostgres, unsynced } from "../playground/postgres.ts"

declare module "vitest" {
  export interface ProvidedContext {
    /** Connection string of an empty maintenance database; tests create their own beside it. */
    postgresUrl: string
  }
}

/** One embedded Postgres for a project's files; Vitest calls this only when the project has tests to run. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const postgres = await startPostgres({ flags: unsynced })
  project.provide("postgresUrl", postgres.url())
  return async () => {
    await postgres.stop()
  }
}
