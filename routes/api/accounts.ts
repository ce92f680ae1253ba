import { z } from "zod";
import { type AccountOf, disconnect, getAuthorization } from "../../models/authorizations.ts";
import { getConnection } from "../../models/connections.ts";
import { getServer } from "../../models/servers.ts";
import { connection } from "./agents.ts";
import { type Asked, operation } from "./operation.ts";
import { serverId } from "./servers.ts";

const Account = z.object({
  state: z.enum(["none", "waiting", "signed_in", "signed_out"]),
  trouble: z.string().nullable().describe("Why it is signed out, or could not be renewed just now"),
  issuer: z.string().nullable().describe("Who signs people in there"),
  scope: z.string(),
  wantedScope: z.string().nullable().describe("What the server asked for beyond that"),
  signedInByName: z.string().nullable(),
  signedInAt: z.iso.datetime().nullable(),
  renewedAt: z.iso.datetime().nullable(),
  signInUrl: z.string().describe(
    "Where a person begins to sign in, in their own browser: a sign-in ends in the one that it began in",
  ),
}).meta({ id: "Account" });

export const accountOperations = [
  operation({
    name: "get_server_account",
    method: "GET",
    path: "/servers/{server}/account",
    scopes: ["read"],
    summary: "Read the account that a remote server is called with, and where a person signs in",
    input: z.strictObject(serverId),
    output: Account,
    run: (asked, { server }) => read(asked, { serverId: server, agentId: null }),
  }),
  operation({
    name: "disconnect_server_account",
    method: "DELETE",
    path: "/servers/{server}/account",
    scopes: ["servers:write"],
    summary: "Forget the account that a remote server is called with",
    input: z.strictObject(serverId),
    output: Account,
    run: (asked, { server }) => forget(asked, { serverId: server, agentId: null }),
  }),
  operation({
    name: "get_own_account",
    method: "GET",
    path: "/agents/{agent}/connections/{server}/account",
    scopes: ["read"],
    summary: "Read an agent's own account at a remote server, and where a person signs in for it",
    input: z.strictObject(connection),
    output: Account,
    run: (asked, { agent, server }) => read(asked, { serverId: server, agentId: agent }),
  }),
  operation({
    name: "disconnect_own_account",
    method: "DELETE",
    path: "/agents/{agent}/connections/{server}/account",
    scopes: ["agents:write", "servers:write"],
    summary: "Forget an agent's own account: it is served with the server's own again",
    input: z.strictObject(connection),
    output: Account,
    run: (asked, { agent, server }) => forget(asked, { serverId: server, agentId: agent }),
  }),
];

async function forget(asked: Asked, of: AccountOf) {
  await disconnect(asked.deps, asked.bearer.user, of);
  return await read(asked, of);
}

async function read({ deps: { db, baseUrl }, bearer: { user } }: Asked, of: AccountOf) {
  const { serverId, agentId } = of;
  await (agentId === null
    ? getServer(db, user, serverId)
    : getConnection(db, user, agentId, serverId));
  const account = await getAuthorization(db, user, of);
  const page = agentId === null
    ? `/servers/${serverId}`
    : `/agents/${agentId}/connections/${serverId}`;
  return {
    ...account ?? {
      state: "none" as const,
      trouble: null,
      issuer: null,
      scope: "",
      wantedScope: null,
      signedInByName: null,
      signedInAt: null,
      renewedAt: null,
    },
    signInUrl: `${baseUrl.href.replace(/\/$/, "")}${page}#account`,
  };
}
