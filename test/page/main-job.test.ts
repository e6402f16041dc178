import { mkdir, stat } from "node:fs/promises"
import { chromium, type Browser, type Page } from "playwright-core"
import { afterAll, beforeAll, expect, test } from "vitest"
import { startStage, type Stage } from "../../playground/stage.ts"

const results = new URL("../../test-results/", import.meta.url).pathname
const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

let stage: Stage
let browser: Browser | undefined
let alice: Page

beforeAll(async () => {
  await mkdir(results, { recursive: true })
  stage = await startStage({ mode: "http", queue: "redis" })
  await stage.start()
  browser = await chromium.launch({ executablePath: process.env["TEST_CHROMIUM"] ?? "", args: [...args, ...quiet] })
  alice = await browser.newPage({ viewport: { width: 1360, height: 960 } })
  alice.setDefaultTimeout(30_000)
  await alice.goto(`${stage.slack.url}/?as=U0ALICE&channel=C0STAGING`)
})
afterAll(async () => {
  await browser?.close()
  await stage.stop()
})

test("the main job, by typing and clicking, as two people", async () => {
  await alice.getByRole("textbox", { name: "Message" }).fill("/rollback staging scoring is broken since the alignment")
  await alice.keyboard.press("Enter")
  const card = alice.getByRole("article").filter({ hasText: "Roll back staging" })
  await card.getByRole("button", { name: "Approve" }).waitFor()
  await see(card.getByText(/"v1\.2\.1" → "v1\.2\.0"/))
  await see(card.getByText(/scoring is broken since the alignment/))

  await card.getByRole("button", { name: "Details" }).click()
  const details = alice.getByRole("dialog")
  await see(details.getByText(/update scoring_config set value/))
  await alice.keyboard.press("Escape")
  await details.waitFor({ state: "detached" })

  await card.getByRole("button", { name: "Approve" }).click()
  await see(alice.getByText(/another person has to approve it/))
  // A glyph would need a font that the machine may lack.
  expect(await card.locator(".avatar.bot svg").boundingBox()).toMatchObject({ width: 19, height: 19 })
  await picture(alice, "waiting")

  await alice.getByRole("combobox", { name: "Act as" }).selectOption({ label: "bob" })
  await alice.getByText("Only visible to you").waitFor({ state: "detached" })
  await card.getByRole("button", { name: "Approve" }).click()
  const done = alice.getByRole("article").filter({ hasText: "staging is back · R-1" })
  await done.waitFor()
  expect(await done.getByRole("button", { name: "Approve" }).count()).toBe(0)

  await done
    .getByRole("button", { name: /repl(y|ies)/ })
    .first()
    .click()
  const thread = alice.getByRole("region", { name: "Thread" })
  await see(thread.getByText(/Set results_version/))
  await see(thread.getByText("19 replies"))
  const analysis = alice.getByRole("article").filter({ hasText: "Post-rollback analysis" })
  await analysis.getByRole("button", { name: "Fill in" }).click()
  await alice.getByRole("textbox", { name: /Root cause/ }).fill("the alignment renamed the engine's key")
  await alice.getByRole("textbox", { name: /prevented/ }).fill("functions first, then the version")
  await picture(alice, "form")
  await alice.getByRole("dialog").getByRole("button", { name: "Save" }).click()
  await see(analysis.getByText(/the alignment renamed the engine's key/))
  expect(await analysis.getByText(/waiting for/).count()).toBe(0)
  await picture(alice, "done")
})

test("on a phone it shows the same, and nothing is wider than the screen", async () => {
  const phone = await getBrowser().newPage({ viewport: { width: 390, height: 844 } })
  await phone.goto(`${stage.slack.url}/?as=U0CAROL&channel=C0STAGING`)
  const analysis = phone.getByRole("article").filter({ hasText: "Post-rollback analysis" })
  await see(analysis.getByText(/Success criteria/))
  await picture(phone, "phone")
  const [inside, screen] = await phone.evaluate(() => [document.documentElement.scrollWidth, innerWidth] as const)
  expect(inside).toBeLessThanOrEqual(screen)
  await phone
    .getByRole("article")
    .filter({ hasText: "staging is back · R-1" })
    .getByRole("button", { name: /repl/ })
    .first()
    .click()
  await see(phone.getByRole("region", { name: "Thread" }).getByText(/Set results_version/))
  await picture(phone, "phone-thread")
})

function getBrowser(): Browser {
  if (browser === undefined) throw new Error("the browser has not started")
  return browser
}

/** Waits until it can be seen; asserting on a locator that waits is what a person's eye does. */
async function see(what: ReturnType<Page["getByText"]>): Promise<void> {
  await what.first().waitFor({ state: "visible" })
}

/** Keeps a picture of what is seen, and makes sure that something is. */
async function picture(page: Page, name: string): Promise<void> {
  const path = `${results}${name}.png`
  await page.screenshot({ path })
  // A blank picture of this size compresses to a few kilobytes.
  expect((await stat(path)).size).toBeGreaterThan(20_000)
  const colours = await page.evaluate(
    async (url) => {
      const image = new Image()
      image.src = url
      await image.decode()
      const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 })
      const context = canvas.getContext("2d")
      context?.drawImage(image, 0, 0, 64, 64)
      const { data } = context?.getImageData(0, 0, 64, 64) ?? { data: new Uint8ClampedArray() }
      return new Set(Array.from({ length: data.length / 4 }, (_, n) => data.slice(n * 4, n * 4 + 3).join())).size
    },
    `data:image/png;base64,${(await page.screenshot()).toString("base64")}`,
  )
  expect(colours).toBeGreaterThan(20)
}
