# syntax=docker/dockerfile:1

FROM node:24-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# `install` and not `ci`: npm 11's `ci` fails where the registry lacks another platform's optional binary.
# The Node that npm would bring along for development machines is left out: the image has its own.
RUN npm install --omit=dev --no-audit --no-fund \
  && rm -rf node_modules/node-linux-* node_modules/.bin/node

FROM node:24-slim
# git: plans name commits and branches, and command steps deploy from checkouts. curl and ssh: what deploy scripts call.
RUN apt-get update \
  && apt-get install -y --no-install-recommends ca-certificates curl git openssh-client \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /app
ENV NODE_ENV=production PORT=3000
COPY --from=dependencies /app/node_modules ./node_modules
COPY package.json manifest.json LICENSE ./
COPY bin ./bin
COPY src ./src
COPY plans ./plans
# Nothing here is written at run time: a read-only root file system with a tmpfs at /tmp is enough.
ENV HOME=/tmp
USER node
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# No npm in between: signals reach the process itself, which drains on SIGTERM.
CMD ["node", "src/main.ts"]
