import type { TestProject } from "vitest/node"
import { findInstalledServer } from "../playground/postgres.ts"
import { startFor } from "./postgres-setup.ts"

/** The machine's own server, as a distribution builds it. */
export function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = findInstalledServer()
  if (server === null) throw new Error("no Postgres server of the distribution here: apt-get install postgresql")
  return startFor(project, server)
}
