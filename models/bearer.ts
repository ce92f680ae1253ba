/** Who acts with a bearer token: a personal one, or an access token of the accounts' own. */
import type { Database } from "./db.ts";
import type { Identity } from "./identity.ts";
import { bearerOfToken, Scope, type TokenBearer } from "./personal_tokens.ts";
import { workspacesOf } from "./workspaces.ts";

/**
 * A personal token says itself where it acts and how far. One of Supabase Auth is its person's sign-in: it does
 * all that they may, in the workspace that the request names, or in their oldest.
 *
 * @param workspaceId what the request says; a personal token's own stands
 * @returns null when the token opens nothing, or not that workspace
 */
export async function bearerOf(
  { db, identity }: { db: Database; identity: Pick<Identity, "personOf"> },
  token: string,
  workspaceId?: string,
): Promise<TokenBearer | null> {
  if (token.startsWith("mpt_")) return await bearerOfToken(db, token);
  const person = await identity.personOf(token);
  if (!person) return null;
  const all = await workspacesOf(db, person);
  const workspace = workspaceId ? all.find(({ id }) => id === workspaceId) : all[0];
  if (!workspace) return null;
  const { id, name, role } = workspace;
  return {
    // Requests are counted by it; there is no personal token of that id.
    tokenId: person.userId,
    user: { ...person, within: id },
    workspace: { id, name, role },
    scopes: Scope.options,
    expiresAt: null,
  };
}
