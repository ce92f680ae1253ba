/** Which agent a bearer token at the bridge calls as: an agent's own token, or one of the accounts'. */
import { agentOfToken, type TokenHolder } from "./agents.ts";
import { SCOPE, scopesIn } from "./authorization_server.ts";
import type { Database } from "./db.ts";
import { Forbidden, Invalid } from "./errors.ts";
import type { ClientSession, Identity, Person } from "./identity.ts";
import type { Role } from "./workspaces.ts";

/** What a request names beside a person's own token, which is no agent's. */
export interface Named {
  agentId?: string;
  workspaceId?: string;
}

/** So many agents a person is told of who has to choose one. */
const TOLD_LIMIT = 20;

/** Whether a token names its agent by itself: whatever the request says beside it. */
export function isAgents(token: string): boolean {
  return /^m(ag|oa)_/.test(token);
}

/**
 * The agent that a token calls as. A person calls as one of the agents that they could make a token for; a
 * client that signed them in as the one that they chose for it.
 *
 * @returns null when the token opens nothing
 * @throws {Invalid} it is a person's own, and the request does not say which agent
 * @throws {Forbidden} the person may not call as that one
 */
export async function agentOfBearer(
  { db, identity }: { db: Database; identity?: Pick<Identity, "senderOf"> },
  token: string,
  named: Named,
): Promise<TokenHolder | null> {
  if (isAgents(token) || !identity?.senderOf) return await agentOfToken(db, token);
  const sender = await identity.senderOf(token);
  if (!sender) return null;
  const { expiresAt } = sender;
  return "client" in sender
    ? await agentOfClient(db, sender.client, expiresAt)
    : { ...await agentOfPerson(db, sender.person, named), expiresAt, limits: null };
}

async function agentOfClient(
  db: Database,
  { userId, sessionId, clientId, resources, end }: ClientSession,
  expiresAt: Date,
): Promise<TokenHolder | null> {
  const [row] = await db.asApp`
    select * from mooring.agent_of_project_client(${userId}, ${sessionId}, ${clientId})`;
  if (!row) return null;
  if (!row.token_id) {
    // Else it would renew its token for ever, and be refused each time.
    await end();
    return null;
  }
  await db.asApp`select mooring.token_was_used(${row.token_id})`;
  return {
    tokenId: row.token_id,
    agentId: row.agent_id,
    workspaceId: row.workspace_id,
    expiresAt: row.expires_at && row.expires_at < expiresAt ? row.expires_at : expiresAt,
    // Such a server has no scopes of ours: the grant says how far its client may go.
    limits: { resources, scopes: scopesIn(row.scope ?? SCOPE) },
  };
}

async function agentOfPerson(db: Database, person: Person, { agentId, workspaceId }: Named) {
  const id = agentId && idIn("Mooring-Agent", agentId);
  const within = workspaceId && idIn("Mooring-Workspace", workspaceId);
  const agents = await db.asUser(
    person,
    (sql) =>
      sql<{ agentId: string; name: string; workspaceId: string; role: Role }[]>`
      select a.id as "agentId", a.name, a.workspace_id as "workspaceId", m.role
      from agents a
      join members m on m.workspace_id = a.workspace_id and m.user_id = ${person.userId}
      where ${
        id
          ? sql`a.id = ${id} and a.workspace_id = coalesce(${within ?? null}::uuid, a.workspace_id)`
          : sql`a.workspace_id = coalesce(${within ?? null}::uuid,
              (select w.id from workspaces w order by w.created_at, w.id limit 1))`
      }
      order by lower(a.name), a.id limit ${TOLD_LIMIT + 1}`,
  );
  const [agent] = agents;
  if (!agent) {
    throw new Invalid(
      id
        ? "You have no such agent as Mooring-Agent names: its id stands in the address of its page"
        : "There is no agent to call as: make one on the page Agents, or name another workspace " +
          "with the header Mooring-Workspace: <id>",
    );
  }
  if (agents.length > 1) {
    const told = agents.slice(0, TOLD_LIMIT).map(({ name, agentId }) => `${name} is ${agentId}`);
    throw new Invalid(
      "Say as which agent you call, with the header Mooring-Agent: <id>. " + told.join(", ") +
        (agents.length > TOLD_LIMIT ? ", and others" : ""),
    );
  }
  // As pages have it: who may make a token for an agent may call as it.
  if (agent.role === "viewer") {
    throw new Forbidden(
      "You may look at this workspace, and call no tools. Ask an admin for another role",
    );
  }
  // Requests are counted by it, as the API counts them; there is no token of that id.
  return { tokenId: person.userId, agentId: agent.agentId, workspaceId: agent.workspaceId };
}

function idIn(header: string, text: string): string {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) return text;
  throw new Invalid(`${header} has to be an id, as the API lists them`);
}
