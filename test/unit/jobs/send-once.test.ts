import { expect, it } from "vitest"
import type { Sender, Sent } from "../../../src/jobs/deliver.ts"
import { sendOnce } from "../../../src/jobs/send-once.ts"

/** A thread of one message's copies, and two processes that may write to it. */
function thread() {
  const standing: number[] = []
  let clock = 0
  const sender = {
    remove: async ({ ts }: { ts: string }) => {
      standing.splice(standing.indexOf(Number(ts)), 1)
      return true
    },
  } as unknown as Sender
  const write = async (): Promise<Sent> => {
    standing.push(++clock)
    return { kind: "sent", channel: "C1", ts: String(clock) }
  }
  const look = async () => {
    const [ts, ...twins] = standing.map(String)
    return ts === undefined ? { kind: "none" as const } : { kind: "found" as const, ts, twins }
  }
  return { standing, sender, write, look }
}

const lane = (isOurs: () => boolean) => ({ owner: "me", isOurs })
const message = (of: ReturnType<typeof thread>, inDoubt: boolean) => ({
  channel: "C1",
  inDoubt,
  look: of.look,
  mark: async () => true,
  unmark: async () => undefined,
  planLook: async () => undefined,
  post: of.write,
})

it("does not post when the lane became another's between the mark and the post", async () => {
  const slack = thread()
  const sent = await sendOnce(
    message(slack, false),
    lane(() => false),
    slack.sender,
  )
  expect(sent.kind).toBe("unknown")
  expect(slack.standing).toEqual([])
})

it("does not post what it may not mark", async () => {
  const slack = thread()
  const sent = await sendOnce(
    { ...message(slack, false), mark: async () => false },
    lane(() => true),
    slack.sender,
  )
  expect(sent.kind).toBe("unknown")
  expect(slack.standing).toEqual([])
})

it.each(["heard", "not heard"])(
  "takes its own message back when it was frozen in the post and another has posted meanwhile, its answer %s",
  async (answer) => {
    const slack = thread()
    let ours = true
    const frozen = {
      ...message(slack, false),
      post: async (): Promise<Sent> => {
        ours = false
        const heir = await sendOnce(
          message(slack, true),
          lane(() => true),
          slack.sender,
        )
        expect(heir).toMatchObject({ kind: "sent", ts: "1" })
        const own = await slack.write()
        return answer === "heard" ? own : { kind: "unknown", error: "socket hang up" }
      },
    }
    const sent = await sendOnce(
      frozen,
      lane(() => ours),
      slack.sender,
    )
    expect(slack.standing).toEqual([1])
    // What stands is the heir's to record.
    expect(sent.kind).toBe("unknown")
  },
)

it("takes its own message back when the frozen one wakes between its look and its post", async () => {
  const slack = thread()
  const heir = {
    ...message(slack, true),
    post: async () => {
      await slack.write()
      return slack.write()
    },
  }
  const sent = await sendOnce(
    heir,
    lane(() => true),
    slack.sender,
  )
  expect(slack.standing).toEqual([1])
  expect(sent).toMatchObject({ kind: "sent", ts: "1" })
})

it("stays in doubt while a twin cannot be taken back", async () => {
  const slack = thread()
  await slack.write()
  await slack.write()
  const sender = { ...slack.sender, remove: async () => false }
  const sent = await sendOnce(
    message(slack, true),
    lane(() => true),
    sender,
  )
  expect(sent.kind).toBe("unknown")
})
