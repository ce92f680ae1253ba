import type { Connection, ConnectionTool } from "../models/connections.ts";
import type { Authorization } from "../models/authorizations.ts";
import type { Server } from "../models/servers.ts";
import { AgentAccount } from "./authorization.tsx";
import { ConnectionSecrets, type ConnectionSecretsProps } from "./connection_secrets.tsx";
import { Form, Picked, Sending, useMay } from "./form.tsx";
import { count, Empty, tokens } from "./parts.tsx";
import { tokensOf } from "./token_cost.ts";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface ConnectionPageProps extends ConnectionSecretsProps {
  server: Server;
  /** The agent's own. */
  account: Authorization | null;
}

/** What an agent gets of one server: which tools, with the way to how it sees each. */
export function ConnectionPage(props: ConnectionPageProps) {
  const { connection, server, account, hasInstances } = props;
  const url = useUrl();
  const { agentName, serverName, tools } = connection;
  const path = url(`/agents/${connection.agentId}`);
  return (
    <>
      <p class="crumbs">
        <a href={url("/agents")}>Agents</a> / <a href={path}>{agentName}</a> / {serverName}
      </p>
      <h1>
        {serverName} for {agentName}
      </h1>
      <p class="lead">
        Which of the server's tools this agent gets, and how it sees them. Tools are approved on
        {" "}
        <a href={url(`/servers/${connection.serverId}/tools`)}>the server's page</a>.
      </p>
      {tools.length === 0
        ? (
          <Empty title="No tools are known yet">
            <p>They are listed once the server has answered the handshake.</p>
          </Empty>
        )
        : <PickedTools connection={connection} />}
      <AgentAccount
        server={server}
        agent={{ id: connection.agentId, name: agentName }}
        authorization={account}
        hasInstances={hasInstances}
      />
      {props.secrets.length > 0 && <ConnectionSecrets {...props} />}
    </>
  );
}

function PickedTools({ connection }: { connection: Connection }) {
  const { agentId, serverId, tools, picked, deniesByDefault } = connection;
  const url = useUrl();
  const path = `/agents/${agentId}/connections/${serverId}`;
  const mayPick = useMay()(url(path));
  const given = givenTools(connection);
  return (
    <Form class="card" action={url(path)} aria-labelledby="picked" isList>
      <h2 id="picked">Tools</h2>
      <p>
        It gets {given.length} of {count(tools.length, "tool")}:{" "}
        {tokens(given.reduce((sum, tool) => sum + costOf(connection, tool), 0))}{" "}
        each time a model is given them.
      </p>
      <fieldset disabled={!mayPick}>
        <legend>This agent gets</legend>
        <label class="choice">
          <input type="radio" name="which" value="default" checked={picked === null} />{" "}
          {deniesByDefault
            ? "none, as the agent's settings say"
            : "all that are approved, those of later versions too"}
        </label>
        <label class="choice">
          <input
            type="radio"
            id="which-picked"
            name="which"
            value="picked"
            checked={picked !== null}
          />{" "}
          those that are ticked below
        </label>
        {picked === null && (
          <input
            type="hidden"
            name="was"
            value={JSON.stringify(
              tools.filter(({ isAllowed }) => isAllowed).map(({ name }) => name).toSorted(),
            )}
          />
        )}
      </fieldset>
      <ul class="tools">
        {tools.map((tool, index) => <Row {...{ connection, tool, path, id: `tool-${index}` }} />)}
      </ul>
      <Sending>
        <p class="acts">
          <button>Save</button>
        </p>
      </Sending>
    </Form>
  );
}

const STATES: Record<ConnectionTool["state"], string | null> = {
  approved: null,
  waiting: "○ Waits for approval",
  changed: "▲ Changed: withheld",
};

function Row(
  { connection, tool, path, id }: {
    connection: Connection;
    tool: ConnectionTool;
    path: string;
    id: string;
  },
) {
  const url = useUrl();
  const { name, change, state } = tool;
  const mayPick = useMay()(url(path));
  return (
    <li class="tool">
      <div class="tool-head">
        <Picked
          id={id}
          label={
            <>
              <code>{visibleText(name)}</code>
              {changesOf(tool).map((said) => <span>{said}</span>)}
              {!tool.isAllowed && !mayPick && <span>not picked</span>}
            </>
          }
        >
          <input
            type="checkbox"
            id={id}
            name="tool"
            value={name}
            checked={tool.isAllowed}
            data-chooses="which-picked"
          />
        </Picked>
        {STATES[state] && <span class={`status ${state}`}>{STATES[state]}</span>}
        <small>{tokens(costOf(connection, tool))}</small>
        <a
          class="button quiet"
          href={url(`${path}/tools/${encodeURIComponent(name)}`)}
          aria-label={`${mayPick ? "Change" : "Look at"} ${visibleText(name)}`}
        >
          {Object.keys(change).length > 0 ? "Changed" : mayPick ? "Change" : "Look"}
        </a>
      </div>
    </li>
  );
}

function changesOf({ change }: ConnectionTool): string[] {
  const said = [];
  if (change.name !== undefined) said.push(`called ${change.name}`);
  if (change.description !== undefined) said.push("described anew");
  const names = (values: Record<string, unknown>) =>
    Object.keys(values).map((name) => visibleText(name).slice(0, 60)).join(", ");
  if (change.fixed) said.push(`fixed: ${names(change.fixed)}`);
  if (change.defaults) said.push(`defaults: ${names(change.defaults)}`);
  const { perMinute, atOnce } = change;
  if (perMinute !== undefined) said.push(`at most ${count(perMinute, "call")} a minute`);
  if (atOnce !== undefined) said.push(`at most ${count(atOnce, "call")} at once`);
  return said;
}

/** The tools that an agent gets of a connection now. */
export function givenTools({ tools }: Connection): ConnectionTool[] {
  return tools.filter(({ state, isAllowed }) => state === "approved" && isAllowed);
}

/** Of definitions as their server has them, which many agents are given alike: each is counted once. */
const OWN_COSTS = new WeakMap<ConnectionTool["definition"], number>();

/** What a tool costs a model, under the name that the agent sees. */
export function costOf(
  { serverSlug }: Connection,
  { shown, definition, change }: ConnectionTool,
): number {
  const isOwn = Object.keys(change).length === 0;
  const known = isOwn ? OWN_COSTS.get(definition) : undefined;
  if (known !== undefined) return known;
  const cost = tokensOf({ ...shown, name: `${serverSlug}__${shown.name}` });
  if (isOwn) OWN_COSTS.set(definition, cost);
  return cost;
}

/** What the tools that an agent is given of a server cost a model. */
export function costOfConnection(connection: Connection, given = givenTools(connection)): number {
  return given.reduce((sum, tool) => sum + costOf(connection, tool), 0);
}
