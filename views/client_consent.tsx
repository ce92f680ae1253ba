import type { Child } from "hono/jsx";
import type { Agent } from "../models/agents.ts";
import type { Client, ToolScope } from "../models/authorization_server.ts";
import type { Connection, ConnectionTool } from "../models/connections.ts";
import { givenTools } from "./connection.tsx";
import { Form } from "./form.tsx";
import { count, Field, Mistake } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** Who asks, which agent it shall be, and what tools that gives it. */
export function ClientConsent(
  {
    client,
    asked,
    agents,
    managers,
    connections,
    action,
    workspaceName,
    hasOthers,
    note,
    ...typed
  }: {
    client: Client;
    /** How far it wants to go. */
    asked: ToolScope;
    agents: Agent[];
    /** The ids of those that may manage Mooring. */
    managers: string[];
    connections: Connection[];
    /** With all that the client asked. */
    action: string;
    workspaceName: string;
    /** The person is in others, too. */
    hasOthers: boolean;
    /** What else is given with it. */
    note?: string;
    agent?: string;
    name?: string;
    scope?: string;
    mistake?: string;
  },
) {
  const url = useUrl();
  const known = agents.find(({ tokens }) => tokens.some(wantsMore(client)));
  const chosen = typed.agent ?? known?.id ?? agents[0]?.id ?? "new";
  const scope = typed.scope ?? asked;
  return (
    <section class="card door">
      <h1>
        <span>
          Let <q>{visibleText(client.name)}</q> use your tools?
        </span>
      </h1>
      <dl class="facts">
        <dt>Answers go to</dt>
        <dd>
          <strong>{visibleText(client.host)}</strong>
        </dd>
        {client.id.startsWith("https://") && (
          <>
            <dt>Described at</dt>
            <dd>{visibleText(client.id)}</dd>
          </>
        )}
        {client.uri && (
          <>
            <dt>Its page, it says</dt>
            <dd>{visibleText(client.uri)}</dd>
          </>
        )}
        <dt>Workspace</dt>
        <dd>
          {workspaceName}
          {hasOthers && (
            <>
              {" "}
              <small>
                (for an agent of another one <a href={url("/workspaces")}>switch</a>{" "}
                first, and connect again)
              </small>
            </>
          )}
        </dd>
      </dl>
      <p class="notice">
        The name is what the client calls itself, and nobody verified it. Go on only if you have
        just connected it yourself.
        {client.host.includes("this computer") &&
          " Any program on this computer may be the one that takes the answer."}
      </p>
      {known && (
        <p class="notice">
          It is <strong>{known.name}</strong>{" "}
          already, and uses the tools that only read. It called one that may change something.
        </p>
      )}
      <Mistake>{typed.mistake}</Mistake>
      <Form
        action={url(action)}
        instead="You may look at this workspace, and let no client in. Ask an admin for another role."
      >
        <fieldset>
          <legend>It shall be</legend>
          {agents.map((agent) => (
            <AgentChoice
              agent={agent}
              connections={connections.filter(({ agentId }) => agentId === agent.id)}
              isManager={managers.includes(agent.id)}
              isChosen={chosen === agent.id}
            />
          ))}
          <div class="choice">
            <input
              type="radio"
              name="agent"
              value="new"
              id="agent-new"
              checked={chosen === "new"}
            />
            <label for="agent-new">
              A new agent <small>without tools, until you connect it to servers</small>
            </label>
          </div>
          <Field name="name" label="Name of the new agent" value={typed.name ?? client.name} />
        </fieldset>
        <fieldset>
          <legend>It may use</legend>
          <ScopeChoice value="tools:read" {...{ asked, scope }} title="The tools that only read">
            as their approved annotations say, with prompts and resources; you are asked again when
            it calls another
          </ScopeChoice>
          <ScopeChoice value="tools" {...{ asked, scope }} title="All of the agent's tools">
            also those that write, send or delete
          </ScopeChoice>
        </fieldset>
        <p class="help">
          That goes for tools that you give the agent later as well, until you revoke it on the
          agent's page.
        </p>
        {note && <p class="notice">{note}</p>}
        <p class="acts">
          <button name="decision" value="allow">Allow</button>
          <button name="decision" value="deny" class="quiet">Deny</button>
        </p>
      </Form>
    </section>
  );
}

function ScopeChoice({ value, asked, scope, title, children }: {
  value: ToolScope;
  asked: ToolScope;
  /** The chosen one. */
  scope: string;
  title: string;
  children: Child;
}) {
  const id = `scope-${value.replace(":", "-")}`;
  return (
    <div class="choice">
      <input type="radio" name="scope" value={value} id={id} checked={scope === value} />
      <label for={id}>
        {title}
        {value === asked && ", which it asks for"} <small>{children}</small>
      </label>
    </div>
  );
}

function AgentChoice({ agent, connections, isManager, isChosen }: {
  agent: Agent;
  connections: Connection[];
  isManager: boolean;
  isChosen: boolean;
}) {
  const id = `agent-${agent.id}`;
  const tools = connections.flatMap((connection) =>
    givenTools(connection).map((tool) => ({
      name: `${connection.serverSlug}__${tool.shown.name}`,
      onlyReads: onlyReads(tool),
    }))
  );
  const reading = tools.filter(({ onlyReads }) => onlyReads).length;
  return (
    <div class="choice">
      <input type="radio" name="agent" value={agent.id} id={id} checked={isChosen} />
      <label for={id}>
        {agent.name}{" "}
        <small>
          {count(tools.length, "tool")}
          {connections.length > 0 &&
            ` of ${connections.map(({ serverName }) => serverName).join(", ")}`}
          {tools.length > 0 && `; ${reading || "none"} only ${reading > 1 ? "read" : "reads"}`}
          {isManager && ", and those that manage Mooring"}
        </small>
      </label>
      {tools.length > 0 && (
        <details>
          <summary>Its tools</summary>
          <ul>
            {tools.map(({ name, onlyReads }) => (
              <li>
                <code>{visibleText(name)}</code> {onlyReads && <small>only reads</small>}
              </li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}

/** Whether a client has this grant, and called a tool beyond it. */
function wantsMore({ id }: Client) {
  return ({ clientId, wantedMoreAt, revokedAt }: Agent["tokens"][number]) =>
    clientId === id && wantedMoreAt !== null && revokedAt === null;
}

/** By its approved annotations, as the bridge has it. */
function onlyReads({ definition }: ConnectionTool): boolean {
  const annotations = definition.annotations as { readOnlyHint?: unknown } | undefined;
  return annotations?.readOnlyHint === true;
}

/** What is left in the browser once the client has its answer. */
export function BackToClient({ client, to, isAllowed }: {
  client: Client;
  to: string;
  isAllowed: boolean;
}) {
  return (
    <section class="card door">
      <h1>{isAllowed ? "Allowed" : "Denied"}</h1>
      <p>
        {isAllowed
          ? "The client is told, and goes on. You can close this page."
          : "The client is told, and gets nothing. You can close this page."}
      </p>
      <p class="acts">
        <a class="button quiet" href={to}>Go back to {visibleText(client.name)}</a>
      </p>
    </section>
  );
}

/** The same, of a client whose agent was chosen before; who it is, is not told again. */
export function BackAsBefore({ to }: { to: string }) {
  return (
    <section class="card door">
      <h1>Allowed before</h1>
      <p>
        You let this client in before, and it goes on as the agent that you chose then. For another
        one, revoke it on that agent's page and connect it again. You can close this page.
      </p>
      <p class="acts">
        <a class="button quiet" href={to}>Go back to the client</a>
      </p>
    </section>
  );
}

export function ClientRefusedPage({ message, to }: {
  message: string;
  /** Where the client would be told. */
  to?: string;
}) {
  return (
    <section class="card door">
      <h1>The client cannot connect</h1>
      <p class="notice bad">{visibleText(message)}.</p>
      <p>Nothing was given to it. Try it again from the client.</p>
      {to && (
        <p class="acts">
          <a class="button quiet" href={to}>Tell the client</a>
        </p>
      )}
    </section>
  );
}
