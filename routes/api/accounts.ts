import { z } from "zod";
import { disconnect, getAuthorization } from "../../models/authorizations.ts";
import { getServer } from "../../models/servers.ts";
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
    run: (asked, { server }) => read(asked, server),
  }),
  operation({
    name: "disconnect_server_account",
    method: "DELETE",
    path: "/servers/{server}/account",
    scopes: ["servers:write"],
    summary: "Forget the account that a remote server is called with",
    input: z.strictObject(serverId),
    output: Account,
    run: async (asked, { server }) => {
      await disconnect(asked.deps, asked.bearer.user, server);
      return await read(asked, server);
    },
  }),
];

async function read({ deps: { db, baseUrl }, bearer: { user } }: Asked, server: string) {
  await getServer(db, user, server);
  const account = await getAuthorization(db, user, server);
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
    signInUrl: `${baseUrl.href.replace(/\/$/, "")}/servers/${server}#account`,
  };
}
