import type { Store } from "../store.ts"
import type { Json, User } from "../types.ts"
import { flag, page, refuse, text } from "./method.ts"
import type { Method } from "./method.ts"

function wireUser(user: User, store: Store): Json {
  const shared = {
    id: user.id,
    name: user.name,
    team_id: user.team_id,
    deleted: user.deleted,
    is_bot: user.is_bot,
    is_app_user: false,
    updated: 0,
  }
  const profile = { real_name: user.name, display_name: user.name, team: user.team_id }
  const people = {
    real_name: user.name,
    tz: "Etc/UTC",
    tz_label: "UTC",
    tz_offset: 0,
    profile,
    is_admin: false,
    is_owner: false,
  }
  const stranger = user.team_id !== store.identity.teamId || user.is_stranger ? { is_stranger: user.is_stranger } : {}
  // Slack leaves these two out for deactivated people.
  const kind = user.deleted ? {} : { is_restricted: user.is_restricted, is_ultra_restricted: user.is_ultra_restricted }
  return { ...shared, ...people, ...kind, ...stranger }
}

const wireGroup = (store: Store, id: string, withUsers: boolean): Json => {
  const group = store.groups.get(id)
  return {
    id,
    team_id: store.identity.teamId,
    is_usergroup: true,
    name: group?.name,
    handle: group?.handle,
    is_external: false,
    date_delete: 0,
    user_count: group?.users.length ?? 0,
    ...(withUsers ? { users: group?.users ?? [] } : {}),
  }
}

export const directoryMethods: Record<string, Method> = {
  "api.test": {
    token: "none",
    run: (args) => (text(args, "error") ? refuse(text(args, "error"), { args }) : { ok: true, args }),
  },
  "auth.test": {
    run: (_, { store, baseUrl }) => ({
      ok: true,
      url: `${baseUrl}/`,
      team: "Local",
      user: store.users.get(store.identity.botUserId)?.name,
      team_id: store.identity.teamId,
      user_id: store.identity.botUserId,
      bot_id: store.identity.botId,
      is_enterprise_install: false,
    }),
  },
  "apps.connections.open": {
    scopes: ["connections:write"],
    token: "app",
    run: (_, { socketUrl }) => ({ ok: true, url: socketUrl() }),
  },
  "users.info": {
    scopes: ["users:read"],
    run: (args, { store }) => {
      const user = store.users.get(text(args, "user"))
      return user ? { ok: true, user: wireUser(user, store) } : refuse("user_not_found")
    },
  },
  "users.list": {
    scopes: ["users:read"],
    run: (args, { store }) => {
      const { items, next } = page([...store.users.values()], args, 100)
      return { ok: true, members: items.map((user) => wireUser(user, store)), response_metadata: { next_cursor: next } }
    },
  },
  "usergroups.list": {
    scopes: ["usergroups:read"],
    run: (args, { store }) => ({
      ok: true,
      usergroups: [...store.groups.keys()].map((id) => wireGroup(store, id, flag(args, "include_users"))),
    }),
  },
  "usergroups.users.list": {
    scopes: ["usergroups:read"],
    run: (args, { store }) => {
      const group = store.groups.get(text(args, "usergroup"))
      return group ? { ok: true, users: group.users } : refuse("no_such_subteam")
    },
  },
}
