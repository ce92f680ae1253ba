import { z } from "zod";
import { revokePersonalToken, Scope } from "../../models/personal_tokens.ts";
import { operation } from "./operation.ts";

export const meOperations = [
  operation({
    name: "who_am_i",
    method: "GET",
    path: "/me",
    scopes: [],
    summary: "Read whom the token acts as, where, and how far it may",
    input: z.strictObject({}),
    output: z.object({
      person: z.object({ id: z.uuid(), name: z.string(), email: z.string() }),
      workspace: z.object({
        id: z.uuid(),
        name: z.string(),
        role: z.enum(["owner", "admin", "member", "viewer"]),
      }),
      scopes: z.array(Scope),
      version: z.string().describe("Mooring's"),
    }),
    run: ({ deps: { version }, bearer: { user, workspace, scopes } }) =>
      Promise.resolve({
        person: { id: user.userId, name: user.name, email: user.email },
        workspace,
        scopes,
        version,
      }),
  }),
  operation({
    name: "revoke_own_token",
    method: "DELETE",
    path: "/me/token",
    scopes: [],
    summary: "Revoke the token that this request is made with",
    input: z.strictObject({}),
    run: ({ deps: { db }, bearer: { user, tokenId } }) => revokePersonalToken(db, user, tokenId),
  }),
];
