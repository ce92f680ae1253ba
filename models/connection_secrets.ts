/**
 * Values of a server's secrets for one agent alone, such as its own API token. Its instance of the
 * server is started with them, so the server has to have an instance for each agent.
 */
import { v7 } from "uuid";
import { type AskedInput, askedInputs, type CatalogEntry } from "./catalog_entries.ts";
import type { Database, Sql, User } from "./db.ts";
import { Invalid, NotFound } from "./errors.ts";
import { headerMistake } from "./remote_servers.ts";
import { sealSecret, type SecretsKey } from "./secrets.ts";
import { readForm, secretName } from "./server_form.ts";
import { changing, instancesOf, nextGeneration, sayRequest, type Server } from "./servers.ts";

/** A secret of a server, as it stands with one agent. */
export interface ConnectionSecret {
  asked: AskedInput;
  /** The agent has a value of its own. */
  isOwn: boolean;
}

/** The field by which a value of an agent's own is given up again. */
export function forgetField({ field }: AskedInput): string {
  return `forget.${field}`;
}

/** A server's secrets and which of them this agent has values of its own for. */
export async function listConnectionSecrets(
  db: Database,
  user: User,
  agentId: string,
  server: Server,
): Promise<ConnectionSecret[]> {
  const rows = await db.asUser(user, (sql) =>
    sql<{ name: string }[]>`
      select name from connection_secrets where agent_id = ${agentId} and server_id = ${server.id}`);
  const own = new Set(rows.map(({ name }) => name));
  return secretInputs(server.config.entry).map((asked) => (
    { asked, isOwn: own.has(secretName(asked)) }
  ));
}

/**
 * Gives an agent values of its own for a server's secrets, or takes them back; what the form leaves
 * empty stays. The agent's instance alone is started anew.
 *
 * @param form values by field; `forget.<field>` takes one back; `instancePerAgent` lets the server have
 *   an instance for each agent from now on
 * @throws {Invalid} with a sentence for each field that does not hold
 * @throws {NotFound | Forbidden}
 */
export async function changeConnectionSecrets(
  db: Database,
  user: User,
  { agentId, serverId }: { agentId: string; serverId: string },
  form: Record<string, string>,
  secretsKey: SecretsKey,
): Promise<void> {
  await changing(db, user, serverId, async (sql, server) => {
    const [agent] = await sql<{ name: string }[]>`
      select a.name from connections c join agents a on a.id = c.agent_id
      where c.agent_id = ${agentId} and c.server_id = ${serverId}`;
    if (!agent) throw new NotFound("The agent is not connected to such a server");
    const given = readSecrets(server.config.entry, form);
    const forgotten = secretInputs(server.config.entry)
      .filter((asked) => form[forgetField(asked)] === "true").map(secretName);
    const names = Object.keys(given);
    await sql`
      delete from connection_secrets where agent_id = ${agentId} and server_id = ${serverId}
        and name = any (${[...names, ...forgotten]})`;
    for (const name of names) {
      const id = v7();
      const { keyId, iv, ciphertext } = await sealSecret(secretsKey, id, given[name]);
      await sql`
        insert into connection_secrets (id, workspace_id, agent_id, server_id, name, key_id, iv, ciphertext)
        values (${id}, ${server.workspaceId}, ${agentId}, ${serverId}, ${name}, ${keyId}, ${iv}, ${ciphertext})`;
    }
    if (names.length > 0) await letHaveInstances(sql, user, server, form);
    if (names.length > 0) {
      const message = `Gave the agent "${agent.name}" its own ${names.join(", ")}`;
      await sayRequest(sql, user, server, message);
    }
    const taken = forgotten.filter((name) => !names.includes(name));
    if (taken.length > 0) {
      const message = `Took its own ${taken.join(", ")} from the agent "${agent.name}"`;
      await sayRequest(sql, user, server, message);
    }
  });
}

/** What is an agent's own needs an instance of its own. @throws {Invalid} where that was not agreed to */
export async function letHaveInstances(
  sql: Sql,
  user: User,
  server: Server,
  form: Record<string, string>,
): Promise<void> {
  const { config } = server;
  if (instancesOf(config) === "agent") return;
  if (form.instancePerAgent !== "true") {
    const mistake = "The server needs an instance for each agent: tick this, or give no values";
    throw new Invalid("One field needs attention", { instancePerAgent: mistake });
  }
  const options = { ...config.options, instances: "agent" as const };
  await nextGeneration(sql, user, server, { ...config, options }, server.running);
  await sayRequest(sql, user, server, "Gave each agent an instance of its own");
}

function secretInputs(entry: CatalogEntry): AskedInput[] {
  return askedInputs(entry).filter(({ input }) => input.isSecret);
}

/** The values that a form gives, by the secrets' names. @throws {Invalid} */
function readSecrets(entry: CatalogEntry, form: Record<string, string>): Record<string, string> {
  const optional = <T extends { isRequired: boolean }>(inputs: T[]) =>
    inputs.map((input) => ({ ...input, isRequired: false }));
  const fields = secretInputs(entry).map(({ field }) => field);
  const mistakes: Record<string, string> = {};
  if (entry.package.registry === "remote" || entry.package.registry === "openapi") {
    for (const field of fields) {
      const mistake = form[field] && headerMistake(form[field].trim());
      if (mistake) mistakes[field] = mistake;
    }
  }
  const { secrets } = readForm(
    { ...entry, arguments: optional(entry.arguments), environment: optional(entry.environment) },
    Object.fromEntries(fields.map((field) => [field, form[field] ?? ""])),
    [],
    mistakes,
  );
  return secrets;
}
