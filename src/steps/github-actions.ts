import type { WorkflowStep } from "../plans/plan.ts"
import { GitHubProblem, type GitHub } from "./github.ts"

export type WorkflowRun = {
  id: number
  status: string
  /** Null until it is completed. */
  conclusion: string | null
  headSha: string
  /** What `run-name` made. */
  title: string
  link: string
}

/** The workflow takes this input and puts it into its run-name, so that a run can be told from others. */
export const idInput = "stepback_id"

/** Runs are listed this many a page; GitHub gives 1,000 at the most for a filtered list. */
const pageSize = 50
const mostPages = 20

type Paths = { repo: string[]; workflow: string[] }

/** The parts of GitHub's REST API that a workflow step needs, for one workflow. */
export function actionsOf(github: GitHub, step: Pick<WorkflowStep, "repo" | "file">) {
  const repo = ["repos", ...step.repo.split("/")]
  const paths = { repo, workflow: [...repo, "actions", "workflows", step.file.split("/").at(-1) ?? ""] }
  return { ...workflowOf(github, paths), ...runsOf(github, paths) }
}

export type Actions = ReturnType<typeof actionsOf>

function workflowOf(github: GitHub, { repo, workflow }: Paths) {
  return {
    async workflow(): Promise<{ state: string; path: string }> {
      const { json } = await github.ask({ path: workflow })
      const found = json as { state?: string; path?: string }
      return { state: found.state ?? "unknown", path: found.path ?? "" }
    },

    async commitOf(ref: string): Promise<string> {
      const { text } = await github.ask({
        path: [...repo, "commits", ...ref.split("/")],
        accept: "application/vnd.github.sha",
      })
      if (!/^[0-9a-f]{40,64}$/.test(text.trim()))
        throw new GitHubProblem("no_commit", `GitHub did not say which commit ${ref} is`)
      return text.trim()
    },

    /** Whether runs of this version of the workflow carry the id that they were given. */
    async namesItsRuns(path: string, commit: string): Promise<boolean> {
      const { text } = await github.ask({
        path: [...repo, "contents", ...path.split("/")],
        query: { ref: commit },
        accept: "application/vnd.github.raw+json",
      })
      return new RegExp(`^run-name:.*\\binputs\\.${idInput}\\b`, "m").test(text)
    },

    /** The run, where GitHub tells it at once. */
    async dispatch(ref: string, inputs: Record<string, string>): Promise<number | null> {
      const send = (more: object) =>
        github.ask({ method: "POST", path: [...workflow, "dispatches"], body: { ref, inputs, ...more } })
      const { json } = await send({ return_run_details: true }).catch((error: unknown) => {
        // An older GitHub Enterprise Server refuses what it does not know.
        if (error instanceof GitHubProblem && !error.doubtful && error.message.includes("return_run_details"))
          return send({})
        throw error
      })
      const id = (json as { workflow_run_id?: unknown } | undefined)?.workflow_run_id
      return typeof id === "number" ? id : null
    },
  }
}

function runsOf(github: GitHub, { repo, workflow }: Paths) {
  const runPath = (id: number) => [...repo, "actions", "runs", String(id)]
  return {
    /** Runs since then whose name has one of the ids, newest first. */
    async findRuns(ids: readonly string[], since: string | null): Promise<WorkflowRun[]> {
      const found: WorkflowRun[] = []
      for (let page = 1; page <= mostPages; page++) {
        const query = {
          event: "workflow_dispatch",
          per_page: String(pageSize),
          page: String(page),
          ...(since === null ? {} : { created: `>=${since}` }),
        }
        const { json } = await github.ask({ path: [...workflow, "runs"], query })
        const runs = (json as { workflow_runs?: unknown[] }).workflow_runs ?? []
        found.push(...runs.map(parseRun).filter((run) => ids.some((id) => run.title.includes(id))))
        if (runs.length < pageSize) break
      }
      return found
    },

    /** Null when nothing has changed since the answer that had this tag. */
    async run(id: number, etag: string | null = null): Promise<{ run: WorkflowRun | null; etag: string | null }> {
      const answer = await github.ask({ path: runPath(id), etag })
      return answer.status === 304 ? { run: null, etag } : { run: parseRun(answer.json), etag: answer.etag }
    },

    /** "deploy › Push to production: failure" */
    async listFailures(id: number): Promise<string[]> {
      const { json } = await github.ask({
        path: [...runPath(id), "jobs"],
        query: { filter: "latest", per_page: "100" },
      })
      const jobs =
        (
          json as {
            jobs?: { name: string; conclusion: string | null; steps?: { name: string; conclusion: string | null }[] }[]
          }
        ).jobs ?? []
      return jobs.filter(failed).flatMap((job) => {
        const steps = (job.steps ?? []).filter(failed)
        if (steps.length === 0) return [`job ${job.name}: ${job.conclusion ?? "?"}`]
        return steps.map((step) => `job ${job.name}, step ${step.name}: ${step.conclusion ?? "?"}`)
      })
    },

    /** False when it has ended already. */
    async cancel(id: number): Promise<boolean> {
      try {
        await github.ask({ method: "POST", path: [...runPath(id), "cancel"] })
        return true
      } catch (error) {
        if (error instanceof GitHubProblem && error.code === "github_409") return false
        throw error
      }
    },
  }
}

function failed({ conclusion }: { conclusion: string | null }): boolean {
  return conclusion !== null && !["success", "skipped", "neutral"].includes(conclusion)
}

function parseRun(found: unknown): WorkflowRun {
  const run = found as {
    id: number
    status: string
    conclusion: string | null
    head_sha: string
    display_title?: string
    name?: string
    html_url: string
  }
  return {
    id: run.id,
    status: run.status,
    conclusion: run.status === "completed" ? run.conclusion : null,
    headSha: run.head_sha,
    title: `${run.display_title ?? ""} ${run.name ?? ""}`,
    link: run.html_url,
  }
}
