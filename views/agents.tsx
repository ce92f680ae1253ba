import type { Agent } from "../models/agents.ts";
import type { Call } from "../models/calls.ts";
import type { Connection } from "../models/connections.ts";
import type { ManagementGrant, ManagementScope } from "../models/management_grants.ts";
import type { Server } from "../models/servers.ts";
import { CallTable } from "./calls.tsx";
import { ClientConfiguration } from "./client_configuration.tsx";
import { costOf, givenTools } from "./connection.tsx";
import { Form } from "./form.tsx";
import { Confirm, Copy, count, Empty, Field, Time, tokens } from "./parts.tsx";
import { isLive, TokenRow } from "./token_row.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export function Agents(
  { agents, mistakes = {}, name }: {
    agents: Agent[];
    mistakes?: Record<string, string>;
    name?: string;
  },
) {
  const url = useUrl();
  return (
    <>
      <div class="head">
        <h1>Agents</h1>
        {agents.length > 0 && (
          <p class="acts">
            <a href={url("/agents/connections")}>Picture of all connections</a>
          </p>
        )}
      </div>
      <p class="lead">
        Whoever calls tools: a chat, an editor, a program. Each gets the tools of the servers it is
        connected to.
      </p>
      {agents.length === 0
        ? (
          <Empty title="No agents yet">
            <p>Create one, connect it to a server, and give its token to your MCP client.</p>
          </Empty>
        )
        : (
          <ul class="cards">
            {agents.map((agent) => (
              <li class="card">
                <h2>
                  <a href={url(`/agents/${agent.id}`)}>{agent.name}</a>
                </h2>
                <p>
                  {agent.connections.length
                    ? agent.connections.map((c) => c.serverName).join(", ")
                    : "Connected to no server yet"}
                </p>
                <p class="help">{count(agent.tokens.filter(isLive).length, "token")}</p>
              </li>
            ))}
          </ul>
        )}
      <section class="card" aria-labelledby="new-agent">
        <h2 id="new-agent">New agent</h2>
        <Form action={url("/agents")} class="inline">
          <Field
            name="name"
            label="Name"
            required
            value={name}
            mistake={mistakes.name}
            placeholder="My editor"
          />
          <button>Create</button>
        </Form>
      </section>
    </>
  );
}

export interface AgentProps {
  agent: Agent;
  connections: Connection[];
  /** What find_tools and call_tool cost a model, which are given in place of all definitions. */
  searchTokens: number;
  servers: Server[];
  calls: Call[];
  /** What it may do with Mooring itself. */
  grant: ManagementGrant | null;
  /** The person is one who may say so. */
  mayGrant: boolean;
  /** The bridge's address, as clients reach it. */
  bridgeUrl: string;
  /** A client may have a person sign in. */
  clientsSignIn: boolean;
  /** A token that was made just now: the one time it is shown. */
  newToken: string | null;
  /** What was typed, where it does not hold. */
  instructions?: string;
  asks?: Agent["asks"];
  token?: { name: string; expiresInDays: string };
  mistakes?: Record<string, string>;
}

export function AgentPage(props: AgentProps) {
  const { agent } = props;
  const url = useUrl();
  return (
    <>
      <p class="crumbs">
        <a href={url("/agents")}>Agents</a> / {agent.name}
      </p>
      <div hx-sse:connect={url(`/agents/${agent.id}/live`)} hx-swap="none"></div>
      <div class="head">
        <h1>{agent.name}</h1>
        <div class="acts">
          <a href={url(`/agents/connections?agent=${agent.id}`)}>Picture of its connections</a>
          <Confirm
            label="Remove"
            title={`Remove ${agent.name}?`}
            action={url(`/agents/${agent.id}/remove`)}
          >
            <p>
              Its tokens stop working at once and its connections go. Its calls stay in the log.
            </p>
          </Confirm>
        </div>
      </div>
      <div class="columns">
        <div>
          <AgentToolbelt {...props} />
          <Options agent={agent} />
          <Conversing {...props} />
          <Management {...props} />
          {(props.clientsSignIn || hasClients(agent)) && <Clients {...props} />}
          <Tokens {...props} />
        </div>
        <ClientConfiguration {...props} />
      </div>
      <AgentCalls agentId={agent.id} calls={props.calls} />
    </>
  );
}

/** What it is connected to, what it gets of that, and what that costs. */
export function AgentToolbelt(
  { agent, connections, servers, searchTokens }: Pick<
    AgentProps,
    "agent" | "connections" | "servers" | "searchTokens"
  >,
) {
  const url = useUrl();
  const path = url(`/agents/${agent.id}/connections`);
  const connected = new Set(connections.map(({ serverId }) => serverId));
  const free = servers.filter((server) => !connected.has(server.id) && !server.removedAt);
  const costs = connections.map(costsOf);
  const all = costs.reduce((sum, cost) => sum + cost.tokens, 0);
  return (
    <section class="card" id="toolbelt" aria-labelledby="connections">
      <h2 id="connections">Toolbelt</h2>
      {connections.length === 0
        ? <p class="help">Connected to no server yet, so it gets no tools.</p>
        : (
          <>
            <p>
              {agent.presents === "search"
                ? (
                  <>
                    <strong>{tokens(searchTokens)}</strong>{" "}
                    for find_tools and call_tool, in place of {tokens(all)} for{" "}
                    {count(total(costs), "tool")}.
                  </>
                )
                : (
                  <>
                    <strong>{tokens(all)}</strong> for {count(total(costs), "tool")}{" "}
                    each time a model is given them.
                  </>
                )}
            </p>
            <ul class="rows">
              {connections.map((connection, index) => (
                <li>
                  <a href={url(`/servers/${connection.serverId}`)}>{connection.serverName}</a>
                  <small>
                    {costs[index].tools} of {count(connection.tools.length, "tool")},{" "}
                    {tokens(costs[index].tokens)}
                  </small>
                  <a
                    class="button quiet"
                    href={`${path}/${connection.serverId}`}
                    aria-label={`Edit the tools of ${connection.serverName}`}
                  >
                    Edit
                  </a>
                  <Confirm
                    label="Disconnect"
                    says={`Disconnect ${connection.serverName}`}
                    title={`Disconnect ${connection.serverName}?`}
                    action={`${path}/${connection.serverId}/remove`}
                  >
                    <p>
                      The agent gets its tools no longer. What was picked and changed of them for
                      it, and its own credentials there, go.
                    </p>
                  </Confirm>
                </li>
              ))}
            </ul>
          </>
        )}
      {free.length > 0
        ? (
          <Form action={path} class="inline">
            <div class="field">
              <label for="serverId">Server</label>
              <select id="serverId" name="serverId">
                {free.map((server) => <option value={server.id}>{server.name}</option>)}
              </select>
            </div>
            <button>Connect</button>
          </Form>
        )
        : servers.length === 0 && (
          <p>
            <a href={url("/marketplace")}>Deploy a server</a> to connect it.
          </p>
        )}
    </section>
  );
}

function costsOf(connection: Connection): { tools: number; tokens: number } {
  const given = givenTools(connection);
  return {
    tools: given.length,
    tokens: given.reduce((sum, tool) => sum + costOf(connection, tool), 0),
  };
}

function total(costs: { tools: number }[]): number {
  return costs.reduce((sum, cost) => sum + cost.tools, 0);
}

function Options({ agent }: { agent: Agent }) {
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="options">
      <h2 id="options">Settings</h2>
      <Form action={url(`/agents/${agent.id}/options`)}>
        <Field
          name="presents"
          label="Give this agent find_tools and call_tool instead of all definitions"
          type="checkbox"
          value={String(agent.presents === "search")}
          help="For toolbelts too large for a model: it looks for a tool when it needs one."
        />
        <Field
          name="deniesByDefault"
          label="Give it only tools that were picked"
          type="checkbox"
          value={String(agent.deniesByDefault)}
          help="Else it gets all approved tools of a server, until some are picked."
        />
        <button>Save</button>
      </Form>
    </section>
  );
}

/** How it holds conversations in Mooring's own chat. */
function Conversing({ agent, mistakes = {}, instructions, asks = agent.asks }: AgentProps) {
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="conversing">
      <h2 id="conversing">In the chat</h2>
      <Form action={url(`/agents/${agent.id}/conversing`)}>
        <Field
          name="instructions"
          label="Instructions"
          rows={4}
          value={instructions ?? agent.instructions}
          mistake={mistakes.instructions}
          help="What it is told at the head of each conversation. Other clients give it their own."
        />
        <div class="field">
          <label for="asks">Asks you before it calls</label>
          <select id="asks" name="asks" aria-describedby="asks-help">
            {Object.entries(ASKS_SAYS).map(([each, says]) => (
              <option value={each} selected={each === asks}>{says}</option>
            ))}
          </select>
          <p class="help" id="asks-help">
            A tool is taken to only read where the definition that was approved says so.
          </p>
        </div>
        <p class="acts">
          <button>Save</button>
          <a class="button quiet" href={url(`/chat?agent=${agent.id}`)}>Talk to it</a>
        </p>
      </Form>
    </section>
  );
}

const ASKS_SAYS: Record<Agent["asks"], string> = {
  never: "nothing: it calls what it finds",
  writes: "tools that are not read-only",
  always: "any tool",
};

/** What it may do that changes something, in the words of the page. */
const CHANGES: { scope: Exclude<ManagementScope, "read">; says: string }[] = [
  { scope: "servers:write", says: "Deploy servers out of the catalog" },
  { scope: "agents:write", says: "Connect itself to servers of this workspace" },
];
const READS = "Search the catalog, and read servers, their tools and what happened";
const WAYS = {
  no: "No",
  ask: "When a person approves it",
  allowed: "Without asking",
};

/** Whether it gets tools of Mooring's own. */
function Management({ agent, grant, mayGrant }: AgentProps) {
  const url = useUrl();
  const wayOf = (scope: ManagementScope) =>
    !grant
      ? "ask"
      : !grant.scopes.includes(scope)
      ? "no"
      : grant.asks.includes(scope)
      ? "ask"
      : "allowed";
  return (
    <section class="card" aria-labelledby="management">
      <h2 id="management">May manage Mooring</h2>
      <p class="help">
        {grant
          ? `It gets tools of Mooring's own, and acts as ${grant.grantedByName} with them. It never ` +
            "sees secrets, and approves no tools. "
          : "No. With what you choose here it would get tools of Mooring's own, and act as you. "}
        What it needs a person for waits under <a href={url("/requests")}>Requests</a>.
      </p>
      {!mayGrant
        ? (
          <>
            {grant && (
              <ul>
                {grant.scopes.includes("read") && <li>{READS}</li>}
                {CHANGES.filter(({ scope }) => grant.scopes.includes(scope)).map((
                  { scope, says },
                ) => <li>{says}: {WAYS[wayOf(scope)].toLowerCase()}</li>)}
              </ul>
            )}
            <p class="help">Admins and owners can change this.</p>
          </>
        )
        : (
          <Form action={url(`/agents/${agent.id}/management`)}>
            <Field
              name="read"
              label={READS}
              type="checkbox"
              value={String(grant?.scopes.includes("read") ?? false)}
            />
            {CHANGES.map(({ scope, says }) => {
              const id = `management-${scope.replace(":", "-")}`;
              return (
                <div class="field">
                  <label for={id}>{says}</label>
                  <select id={id} name={scope}>
                    {Object.entries(WAYS).map(([way, title]) => (
                      <option value={way} selected={way === wayOf(scope)}>{title}</option>
                    ))}
                  </select>
                </div>
              );
            })}
            <p class="help">
              Whatever you choose, an entry that needs a secret or runs code while its image is
              built waits for a person.
            </p>
            <button>Save</button>
          </Form>
        )}
    </section>
  );
}

/** Also where nothing signs in any more: they can still be revoked. */
function hasClients({ tokens }: Agent): boolean {
  return tokens.some(({ clientHost }) => clientHost !== null);
}

/** The clients that signed a person in and were let act as it. */
function Clients({ agent }: AgentProps) {
  const url = useUrl();
  const clients = agent.tokens.filter(({ clientHost }) => clientHost !== null);
  return (
    <section class="card" aria-labelledby="connected-clients">
      <h2 id="connected-clients">Connected clients</h2>
      {clients.length === 0
        ? (
          <p class="help">
            None yet. A client that is given the bridge's address alone has you sign in, and you
            choose the agent it shall be.
          </p>
        )
        : (
          <ul class="rows">
            {clients.map((client) => (
              <TokenRow
                token={{ ...client, name: visibleText(client.name) }}
                revoke={url(`/agents/${agent.id}/tokens/${client.id}/revoke`)}
              >
                {`at ${visibleText(client.clientHost ?? "")}, let in `}
                <Time at={client.createdAt} relative />
                {client.scope === "tools:read" ? ", for tools that only read" : ""}
                {client.wantedMoreAt && (
                  <>
                    {"; called another "}
                    <Time at={client.wantedMoreAt} relative />
                  </>
                )}
                {", "}
              </TokenRow>
            ))}
          </ul>
        )}
    </section>
  );
}

const TOKEN_EXPIRIES = {
  "30": "in 30 days",
  "90": "in 90 days",
  "365": "in a year",
  "never": "never",
};

function Tokens(
  { agent, newToken, mistakes = {}, token = { name: "", expiresInDays: "90" } }: AgentProps,
) {
  const url = useUrl();
  const path = url(`/agents/${agent.id}/tokens`);
  const own = agent.tokens.filter(({ clientHost }) => clientHost === null);
  return (
    <section class="card" aria-labelledby="tokens">
      <h2 id="tokens">Tokens</h2>
      {newToken && (
        <div class="notice good" role="alert">
          <p>
            <strong>Copy the token now.</strong> It is shown this once; only its hash is kept.
          </p>
          <Copy id="new-token" text={newToken} label="the token" />
        </div>
      )}
      {own.length > 0 && (
        <ul class="rows">
          {own.map((token) => <TokenRow token={token} revoke={`${path}/${token.id}/revoke`} />)}
        </ul>
      )}
      <Form action={path} class="inline">
        <Field
          name="name"
          label="Name"
          required
          value={token.name}
          mistake={mistakes.name}
          placeholder="laptop"
        />
        <div class="field">
          <label for="expiresInDays">Expires</label>
          <select id="expiresInDays" name="expiresInDays">
            {Object.entries(TOKEN_EXPIRIES).map(([days, says]) => (
              <option value={days} selected={days === token.expiresInDays}>{says}</option>
            ))}
          </select>
        </div>
        <button>Create a token</button>
      </Form>
    </section>
  );
}

export function AgentCalls({ agentId, calls }: { agentId: string; calls: Call[] }) {
  const url = useUrl();
  return (
    <section class="card" id="calls" aria-labelledby="calls-title">
      <h2 id="calls-title">Calls</h2>
      {calls.length === 0 ? <p class="help">No call yet. They show up here as they come.</p> : (
        <>
          <CallTable calls={calls} />
          <p>
            <a href={url(`/calls?agent=${agentId}&period=all`)}>All its calls</a>
          </p>
        </>
      )}
    </section>
  );
}
