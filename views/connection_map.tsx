import type { ConnectionMap, Edge, EdgeState, MapFilter } from "../models/connection_map.ts";
import { costOfConnection, givenTools } from "./connection.tsx";
import { count, Empty, STATUS, tokens } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface MapProps {
  filter: MapFilter;
  map: ConnectionMap;
}

/** What a connection's state is called, and its sign; in the picture its line has a pattern, too. */
const STATES: Record<EdgeState, { name: string; sign: string }> = {
  connected: { name: "Connected", sign: "●" },
  withheld: { name: "Withheld", sign: "▲" },
  server_down: { name: "Server down", sign: "■" },
  toolbox_offline: { name: "Toolbox offline", sign: "?" },
};

/** The page's address, by what it asks for. */
export function mapPath({ agent, toolbox, state }: MapFilter): string {
  const asked = Object.entries({ agent, toolbox, state })
    .filter((each): each is [string, string] => each[1] !== null);
  const search = new URLSearchParams(asked).toString();
  return `/agents/connections${search && `?${search}`}`;
}

export function ConnectionMapPage(props: MapProps) {
  const url = useUrl();
  const { filter, map } = props;
  return (
    <>
      <p class="crumbs">
        <a href={url("/agents")}>Agents</a> / Connections
      </p>
      <h1>Connections</h1>
      <p class="lead">Which agent is given which server's tools, and whether its calls arrive.</p>
      <form
        method="get"
        action={url("/agents/connections")}
        role="search"
        class="search"
        hx-get={url("/agents/connections")}
        hx-trigger="change"
        hx-target="#main"
        hx-select="#main"
        hx-swap="outerMorph"
      >
        <div class="filters">
          <Choice
            name="agent"
            label="Agent"
            any="All agents"
            chosen={filter.agent}
            of={map.all.agents.map(({ id, name }) => [id, name])}
          />
          <Choice
            name="toolbox"
            label="Toolbox"
            any="All toolboxes"
            chosen={filter.toolbox}
            of={map.all.toolboxes.map(({ id, name }) => [id, name])}
          />
          <Choice
            name="state"
            label="State"
            any="Any state"
            chosen={filter.state}
            of={[
              ["trouble", "All in trouble"],
              ...Object.entries(STATES).map(([state, { name }]): [string, string] => [state, name]),
            ]}
          />
        </div>
        <button class="no-script">Show</button>
      </form>
      {/* Another one for another question: of the same a morph would keep the stream. */}
      <div
        id={["live", filter.agent, filter.toolbox, filter.state].join("-")}
        hx-sse:connect={url(mapPath(filter).replace("connections", "connections/live"))}
        hx-swap="none"
      >
      </div>
      <Connections {...props} />
    </>
  );
}

function Choice(
  { name, label, any, chosen, of }: {
    name: string;
    label: string;
    any: string;
    chosen: string | null;
    of: [string, string][];
  },
) {
  return (
    <div class="field">
      <label for={`filter-${name}`}>{label}</label>
      <select id={`filter-${name}`} name={name}>
        <option value="">{any}</option>
        {of.map(([value, text]) => (
          <option value={value} selected={value === chosen}>{visibleText(text)}</option>
        ))}
      </select>
    </div>
  );
}

/** The picture, and the same as a list; follows changes live. */
export function Connections({ filter, map }: MapProps) {
  const url = useUrl();
  const costs = new Map(map.agents.map(({ id }) => [id, costOfAgent(map, id)]));
  if (map.edges.length === 0 && map.agents.length === 0) {
    const isFiltered = Object.values(filter).some((each) => each !== null);
    return (
      <div id="connections">
        <Empty title={isFiltered ? "No connection matches" : "No agent yet"}>
          {isFiltered ? <a href={url("/agents/connections")}>See all connections</a> : (
            <>
              <a href={url("/agents")}>Make an agent</a>{" "}
              and connect it to a server: both are drawn here.
            </>
          )}
        </Empty>
      </div>
    );
  }
  return (
    <div id="connections">
      <p class="help">
        {map.matching > map.servers.length && (
          <strong>
            {map.servers.length} of {count(map.matching, "connected server")}{" "}
            are shown: choose an agent, a toolbox or a state to see the others.{" "}
          </strong>
        )}
        {map.unconnected !== null && map.unconnected > 0 && (
          <>
            {count(map.unconnected, "server")} {map.unconnected === 1 ? "is" : "are"}{" "}
            connected to no agent.
          </>
        )}
      </p>
      {map.edges.length > 0 && <Picture map={map} costs={costs} />}
      <AgentLists map={map} costs={costs} />
    </div>
  );
}

interface Cost {
  tools: number;
  tokens: number;
}

function costOfAgent({ toolbelts }: ConnectionMap, agentId: string): Cost {
  let tools = 0, sum = 0;
  for (const connection of toolbelts.get(agentId) ?? []) {
    const given = givenTools(connection);
    tools += given.length;
    sum += costOfConnection(connection, given);
  }
  return { tools, tokens: sum };
}

const WIDTH = 1160, NODE = { width: 290, height: 40 }, ROW = 50;
const COLUMNS = { agent: 0, server: (WIDTH - NODE.width) / 2, toolbox: WIDTH - NODE.width };

/** Three columns with lines between. Its nodes are links, in the order in which they are read. */
function Picture({ map, costs }: { map: ConnectionMap; costs: Map<string, Cost> }) {
  const { agents, servers, toolboxes, edges } = map;
  const url = useUrl();
  const rows = Math.max(agents.length, servers.length, toolboxes.length);
  const height = rows * ROW;
  const middles = (ids: string[]) =>
    new Map(ids.map((id, index) => [id, (index + .5) * height / ids.length]));
  const at = {
    agents: middles(agents.map(({ id }) => id)),
    servers: middles(servers.map(({ id }) => id)),
    toolboxes: middles(toolboxes.map(({ id }) => id)),
  };
  return (
    <figure class="card map">
      <figcaption>
        <ul class="legend" aria-label="What the lines mean">
          {(Object.keys(STATES) as EdgeState[]).map((state) => (
            <li>
              <svg viewBox="0 0 40 6" width="40" height="6" aria-hidden="true">
                <path class={`edge ${state}`} d="M0 3H40" />
              </svg>{" "}
              {STATES[state].name}
            </li>
          ))}
        </ul>
      </figcaption>
      <svg
        viewBox={`0 0 ${WIDTH} ${height}`}
        role="group"
        aria-label="Agents, their servers, and the toolboxes of those"
      >
        <g aria-hidden="true">
          {edges.map(({ agentId, serverId, state }) => (
            <path
              class={`edge ${state}`}
              d={line(
                COLUMNS.agent,
                at.agents.get(agentId)!,
                COLUMNS.server,
                at.servers.get(serverId)!,
              )}
            />
          ))}
          {servers.map((server) => (
            <path
              class={`edge ${stateOfServer(server.status)}`}
              d={line(
                COLUMNS.server,
                at.servers.get(server.id)!,
                COLUMNS.toolbox,
                at.toolboxes.get(server.toolboxId)!,
              )}
            />
          ))}
        </g>
        {agents.map(({ id, name, presents }) => {
          const cost = costs.get(id)!;
          return (
            <Node
              href={url(`/agents/${id}`)}
              x={COLUMNS.agent}
              y={at.agents.get(id)!}
              name={name}
              detail={cost.tools === 0
                ? "no tools"
                : presents === "search"
                ? `finds ${count(cost.tools, "tool")} by search`
                : `${count(cost.tools, "tool")}, ${tokens(cost.tokens)}`}
            />
          );
        })}
        {servers.map((server) => (
          <Node
            href={url(`/servers/${server.id}`)}
            x={COLUMNS.server}
            y={at.servers.get(server.id)!}
            name={server.name}
            detail={`${STATUS[server.status].sign} ${STATUS[server.status].name}`}
            state={stateOfServer(server.status)}
          />
        ))}
        {toolboxes.map(({ id, name, isOnline }) => (
          <Node
            href={url(`/toolboxes/${id}`)}
            x={COLUMNS.toolbox}
            y={at.toolboxes.get(id)!}
            name={name}
            detail={isOnline ? "● Online" : "▲ Silent"}
            state={isOnline ? "connected" : "toolbox_offline"}
          />
        ))}
      </svg>
    </figure>
  );
}

function line(from: number, fromY: number, to: number, toY: number): string {
  const x = from + NODE.width, bend = (to - x) / 2;
  return `M${x} ${fromY.toFixed(1)}C${x + bend} ${fromY.toFixed(1)} ${x + bend} ${
    toY.toFixed(1)
  } ${to} ${toY.toFixed(1)}`;
}

/** Where a text is cut: SVG does not do that by itself. */
const NAME_LENGTH = 32;

function Node(
  { href, x, y, name, detail, state }: {
    href: string;
    x: number;
    y: number;
    name: string;
    detail: string;
    state?: EdgeState;
  },
) {
  const said = visibleText(name);
  const { width, height } = NODE;
  return (
    <a href={href} class={`node ${state ?? ""}`} aria-label={`${said}: ${detail}`}>
      <rect x={x + 1} y={(y - height / 2).toFixed(1)} width={width - 2} height={height} rx="7" />
      <text x={x + 13} y={(y - 3).toFixed(1)} class="name">
        {said.length > NAME_LENGTH ? `${said.slice(0, NAME_LENGTH - 1)}…` : said}
      </text>
      <text x={x + 13} y={(y + 13).toFixed(1)} class="detail">{detail}</text>
    </a>
  );
}

function stateOfServer(status: string): EdgeState {
  if (status === "running" || status === "idle") return "connected";
  return status === "toolbox_unreachable" ? "toolbox_offline" : "server_down";
}

/** The same in words, for whoever does not see the picture, or has no room for it. */
function AgentLists({ map, costs }: { map: ConnectionMap; costs: Map<string, Cost> }) {
  const url = useUrl();
  const servers = new Map(map.servers.map((server) => [server.id, server]));
  return (
    <div class="cards connections">
      {map.agents.map((agent) => {
        const edges = map.edges.filter(({ agentId }) => agentId === agent.id);
        const cost = costs.get(agent.id)!;
        return (
          <section class="card" aria-labelledby={`agent-${agent.id}`}>
            <h2 id={`agent-${agent.id}`}>
              <span>{visibleText(agent.name)}</span>
            </h2>
            <p class="help">
              {cost.tools > 0
                ? `${count(cost.tools, "tool")}, ${
                  tokens(cost.tokens)
                } each time a model is given them`
                : edges.length === 0
                ? "Connected to no server yet."
                : "It is given no tool."}
              {agent.presents === "search" && " It is given find_tools and call_tool instead."}
            </p>
            <ul class="rows">
              {edges.map((edge) => {
                const server = servers.get(edge.serverId)!;
                return (
                  <li>
                    <a href={url(`/agents/${agent.id}/connections/${server.id}`)}>
                      {visibleText(server.name)}
                    </a>
                    <EdgeStatus edge={edge} />
                    <small>
                      {edge.given} of {count(edge.connection.tools.length, "tool")}, on{" "}
                      {visibleText(server.toolboxName)}
                      {edge.state === "connected" && edge.withheld === 0
                        ? ""
                        : `. ${visibleText(edge.detail)}`}
                    </small>
                  </li>
                );
              })}
            </ul>
          </section>
        );
      })}
    </div>
  );
}

function EdgeStatus({ edge: { state } }: { edge: Edge }) {
  const { name, sign } = STATES[state];
  return (
    <span class={`status edge-${state}`}>
      <span aria-hidden="true">{sign}</span> {name}
    </span>
  );
}
