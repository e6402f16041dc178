import { accessSync, constants } from "node:fs"
import { delimiter, join } from "node:path"

import { findInstalledServer } from "../playground/postgres.ts"
import { findRedis } from "../playground/redis.ts"

/** What the tests may use beyond npm packages: paths of programs, null when the machine has none. */
export type Machine = {
  redisServer: string | null
  chromium: string | null
  psql: string | null
  /** A Postgres server as a distribution builds it. */
  postgres: string | null
}

/** Looks on the PATH; for Chromium, `CHROMIUM_PATH` comes first. */
export function findMachine(env: Record<string, string | undefined>): Machine {
  const folders = (env.PATH ?? "").split(delimiter).filter(Boolean)
  const onPath = ["chromium", "chromium-browser", "google-chrome"].flatMap((name) =>
    folders.map((folder) => join(folder, name)),
  )
  const chromium = [...(env.CHROMIUM_PATH ? [env.CHROMIUM_PATH] : []), ...onPath].find(isExecutable) ?? null
  const psql = env.PSQL ?? folders.map((folder) => join(folder, "psql")).find(isExecutable) ?? null
  return { redisServer: findRedis(), chromium, psql, postgres: findInstalledServer() }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
