import { change, dispatch, type Repository, type Run } from "./world.ts"

export type Asked = {
  method: string
  path: string[]
  query: URLSearchParams
  headers: Record<string, string | undefined>
  body: unknown
}
export type Reply = { status: number; body?: unknown; text?: string; headers?: Record<string, string> }
export type Rules = { token: string; url: string; tellsRun: boolean; hiddenLists: number }

const notFound: Reply = {
  status: 404,
  body: { message: "Not Found", documentation_url: "https://docs.github.com/rest" },
}
const versions = ["2022-11-28", "2026-03-10"]

/** Answers as GitHub's REST API does, for the parts that are used; what is not known is 404. */
export function route(asked: Asked, repository: Repository, rules: Rules): Reply {
  const { headers } = asked
  if (headers["user-agent"] === undefined)
    return {
      status: 403,
      body: {
        message: "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
      },
    }
  if (headers["authorization"] !== `Bearer ${rules.token}`) return { status: 401, body: { message: "Bad credentials" } }
  const version = headers["x-github-api-version"]
  if (version !== undefined && !versions.includes(version))
    return { status: 400, body: { message: `${version} is not a supported version` } }
  const [repos, owner, name, ...rest] = asked.path
  if (repos !== "repos" || `${owner}/${name}` !== repository.name) return notFound
  if (rest[0] === "commits") return commit(rest.slice(1).join("/"), repository, headers)
  if (rest[0] === "contents") return contents(rest.slice(1).join("/"), asked, repository)
  if (rest[0] !== "actions") return notFound
  return rest[1] === "workflows"
    ? workflowRoute(rest.slice(2), asked, repository, rules)
    : rest[1] === "runs"
      ? runRoute(rest.slice(2), asked, repository, rules)
      : notFound
}

function commit(ref: string, repository: Repository, headers: Asked["headers"]): Reply {
  const sha = repository.refs.get(ref) ?? [...repository.refs.values()].find((known) => known === ref)
  if (sha === undefined) return { status: 422, body: { message: `No commit found for SHA: ${ref}` } }
  return headers["accept"] === "application/vnd.github.sha"
    ? { status: 200, text: sha }
    : { status: 200, body: { sha } }
}

function contents(path: string, { query, headers }: Asked, repository: Repository): Reply {
  const at = query.get("ref") ?? "main"
  const known = repository.refs.has(at) || [...repository.refs.values()].includes(at)
  const file = repository.workflows.get(path.replace(/^\.github\/workflows\//, ""))
  if (!known || !file || !path.startsWith(".github/workflows/")) return notFound
  return headers["accept"]?.includes("raw")
    ? { status: 200, text: file.source }
    : { status: 200, body: { content: Buffer.from(file.source).toString("base64") } }
}

function workflowRoute(
  [file = "", what, ...more]: string[],
  asked: Asked,
  repository: Repository,
  rules: Rules,
): Reply {
  const workflow = repository.workflows.get(file)
  if (!workflow || more.length > 0) return notFound
  if (what === undefined && asked.method === "GET")
    return { status: 200, body: { id: workflow.id, path: `.github/workflows/${file}`, state: workflow.state } }
  if (what === "runs" && asked.method === "GET") return listRuns(file, asked.query, repository, rules)
  return what === "dispatches" && asked.method === "POST" ? dispatches(file, asked.body, repository, rules) : notFound
}

function dispatches(file: string, body: unknown, repository: Repository, rules: Rules): Reply {
  const { ref, inputs = {}, return_run_details: tell, ...odd } = (body ?? {}) as Record<string, unknown>
  if (typeof ref !== "string" || Object.keys(odd).length > 0 || (tell !== undefined && !rules.tellsRun))
    return {
      status: 422,
      body: {
        message: `Invalid request. "${tell === undefined ? Object.keys(odd).join() : "return_run_details"}" is not a permitted key.`,
      },
    }
  const run = dispatch(repository, file, ref, inputs as Record<string, unknown>)
  if ("message" in run) return { status: run.status, body: { message: run.message } }
  if (tell !== true) return { status: 204 }
  return {
    status: 200,
    body: {
      workflow_run_id: run.id,
      run_url: `${rules.url}/repos/${repository.name}/actions/runs/${run.id}`,
      html_url: linkOf(run, repository),
    },
  }
}

function listRuns(file: string, query: URLSearchParams, repository: Repository, rules: Rules): Reply {
  const since = Date.parse(query.get("created")?.replace(/^>=/, "") ?? "1970-01-01T00:00:00Z")
  const size = Math.min(Number(query.get("per_page") ?? 30), 100)
  const page = Number(query.get("page") ?? 1)
  const known = repository.runs.filter(
    (run) => run.workflow === file && run.createdAt.getTime() >= since && run.listed++ >= rules.hiddenLists,
  )
  const shown = known.slice((page - 1) * size, page * size)
  return { status: 200, body: { total_count: known.length, workflow_runs: shown.map((run) => shape(run, repository)) } }
}

function runRoute([id, what, ...more]: string[], asked: Asked, repository: Repository, _rules: Rules): Reply {
  const run = repository.runs.find((known) => String(known.id) === id)
  if (!run || more.length > 0) return notFound
  if (what === undefined && asked.method === "GET") {
    const etag = `W/"${run.id}-${run.version}"`
    return asked.headers["if-none-match"] === etag
      ? { status: 304, headers: { etag } }
      : { status: 200, body: shape(run, repository), headers: { etag } }
  }
  if (what === "jobs" && asked.method === "GET")
    return { status: 200, body: { total_count: run.jobs.length, jobs: run.jobs } }
  if (what !== "cancel" || asked.method !== "POST") return notFound
  if (run.status === "completed")
    return { status: 409, body: { message: "Cannot cancel a workflow run that is completed." } }
  change(run, { status: "completed", conclusion: "cancelled" })
  return { status: 202, body: {} }
}

function linkOf(run: Run, repository: Repository): string {
  return `https://github.com/${repository.name}/actions/runs/${run.id}`
}

function shape(run: Run, repository: Repository): Record<string, unknown> {
  return {
    id: run.id,
    name: run.title,
    display_title: run.title,
    event: "workflow_dispatch",
    head_branch: run.ref,
    head_sha: run.headSha,
    status: run.status,
    conclusion: run.conclusion,
    created_at: run.createdAt.toISOString(),
    html_url: linkOf(run, repository),
  }
}
