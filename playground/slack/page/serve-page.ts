import { readFile } from "node:fs/promises"
import type { ServerResponse } from "node:http"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"
import { sendText } from "../http.ts"

const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Local Slack</title>
<link rel="icon" href="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path d='M8 3v4.4L14 3v10L8 8.6V13L1.5 8z'/></svg>">
<link rel="stylesheet" href="/page.css">
</head>
<body><div id="root"></div><script src="/page.js"></script></body>
</html>`

/** In this order: later ones refine earlier ones. */
const styles = ["frame.css", "message.css", "blocks.css", "forms.css", "narrow.css"]

async function style(): Promise<string> {
  const parts = await Promise.all(styles.map((name) => readFile(new URL(name, import.meta.url), "utf8")))
  return parts.join("\n")
}

let script: Promise<string> | undefined

/** Bundled at the first visit: tests that never open the page do not wait for it. */
function bundle(): Promise<string> {
  script ??= build({
    entryPoints: [fileURLToPath(new URL("main.tsx", import.meta.url))],
    bundle: true,
    write: false,
    minify: true,
    jsx: "automatic",
    format: "iife",
    target: "es2022",
    define: { "process.env.NODE_ENV": '"production"' },
    logLevel: "silent",
  }).then(({ outputFiles }) => outputFiles[0]?.text ?? "")
  return script
}

/** Serves the page, its style and its script. */
export async function servePage(response: ServerResponse, path: string): Promise<void> {
  if (path === "" || path === "archives") return sendText(response, 200, html, "text/html; charset=utf-8")
  if (path === "page.css") return sendText(response, 200, await style(), "text/css; charset=utf-8")
  if (path === "page.js") return sendText(response, 200, await bundle(), "text/javascript; charset=utf-8")
  sendText(response, 404, "not found")
}
