import type {
  CallChoices,
  CallFilter,
  CallPage,
  CallSummary,
  GroupBy,
} from "../models/call_search.ts";
import type { Call, CallFigures } from "../models/calls.ts";
import type { Retention } from "../models/retention.ts";
import { bytes, count, duration, Empty, SearchForm, Time } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** What the page's address asks for. */
export interface CallQuery {
  filter: CallFilter;
  by: GroupBy;
  cursor: string | null;
}

export interface CallResultsProps extends CallSummary {
  query: CallQuery;
  found: CallPage;
}

export const GROUPS: { by: GroupBy; name: string }[] = [
  { by: "tool", name: "Tool" },
  { by: "server", name: "Server" },
  { by: "agent", name: "Agent" },
];

const PERIOD_NAMES: [CallFilter["period"], string][] = [
  ["hour", "The last hour"],
  ["day", "The last day"],
  ["week", "The last week"],
  ["month", "The last 30 days"],
  ["all", "All"],
];

const OUTCOME_NAMES: [NonNullable<CallFilter["outcome"]>, string][] = [
  ["ok", "Ok"],
  ["failed", "Failed in any way"],
  ["tool_error", "Error of the tool's own"],
  ["error", "Not run"],
  ["indeterminate", "May have run"],
  ["cancelled", "Cancelled"],
];

/** The page's address, by what it asks for: what is as it is anyway is left out. */
export function queryOf({ filter, by, cursor }: CallQuery): URLSearchParams {
  const { text, agent, server, outcome, via, period } = filter;
  const asked = { q: text, agent, server, outcome, via, period, by, before: cursor };
  const usual: Record<string, string> = { period: "day", by: "tool" };
  return new URLSearchParams(
    Object.entries(asked).filter((each): each is [string, string] =>
      Boolean(each[1]) && usual[each[0]] !== each[1]
    ),
  );
}

export function Calls(
  props: CallResultsProps & CallChoices & { retention: Retention },
) {
  const url = useUrl();
  const { filter, by } = props.query;
  const { callsKeptDays, keepsBodies, bodiesKeptDays } = props.retention;
  return (
    <>
      <h1>Calls</h1>
      <p class="lead">
        Every call of a tool through the bridge, and those that people tried: who, when, how long
        and how it ended. {keepsBodies
          ? `What agents said is kept for ${count(bodiesKeptDays, "day")}, for owners and admins`
          : "What agents said is not kept"}; what you tried is, on the tool's page, for you alone.
      </p>
      <p class="help">
        Calls are kept for {callsKeptDays} days, what they sum up to for two years:{" "}
        <a href={url("/workspace#kept")}>What is kept</a>. Times of many calls are at most 5 % off.
      </p>
      <SearchForm at="/calls" text={filter.text} placeholder="Tool, server or error">
        <Choice name="period" label="When" of={PERIOD_NAMES} chosen={filter.period} />
        <Choice
          name="agent"
          label="Agent"
          any="All agents"
          of={props.agents.map(({ id, name }) => [id, name])}
          chosen={filter.agent}
        />
        <Choice
          name="server"
          label="Server"
          any="All servers"
          of={props.servers.map(({ id, name }) => [id, name])}
          chosen={filter.server}
        />
        <Choice
          name="outcome"
          label="Outcome"
          any="Any outcome"
          of={OUTCOME_NAMES}
          chosen={filter.outcome}
        />
        <Choice
          name="via"
          label="Called by"
          any="Agents and people"
          of={[["bridge", "Agents"], ["trial", "People, on a tool's page"]]}
          chosen={filter.via}
        />
        {by !== "tool" && <input type="hidden" name="by" value={by} />}
      </SearchForm>
      <CallResults {...props} />
    </>
  );
}

function Choice(
  { name, label, any, of, chosen }: {
    name: string;
    label: string;
    any?: string;
    of: [string, string][];
    chosen: string | null;
  },
) {
  return (
    <>
      <label for={name} class="hidden">{label}</label>
      <select id={name} name={name}>
        {any && <option value="">{any}</option>}
        {of.map(([value, text]) => <option value={value} selected={value === chosen}>{text}
        </option>)}
      </select>
    </>
  );
}

/** What was found; on its first page it follows the calls as they come. */
export function CallResults(props: CallResultsProps) {
  const { query, found, total, history, groups } = props;
  const url = useUrl();
  const search = queryOf(query);
  if (total.calls === 0) {
    return (
      <div id="results">
        <Live query={query} />
        <Empty title="No calls">
          <p>
            {isFiltered(query.filter)
              ? (
                <>
                  Nothing matches. <a href={url("/calls?period=all")}>See all calls</a>.
                </>
              )
              : (
                <>
                  Nobody called a tool in this time.{" "}
                  <a href={url("/agents")}>Give an agent's token to your MCP client</a>, or try a
                  tool on its server's page.
                </>
              )}
          </p>
        </Empty>
      </div>
    );
  }
  const older = new URLSearchParams(search);
  if (found.next) older.set("before", found.next);
  const first = queryOf({ ...query, cursor: null });
  return (
    <div id="results">
      <Live query={query} />
      <section class="card" aria-labelledby="history">
        <h2 id="history">{inWords(total)}</h2>
        {props.isCut && (
          <p class="notice">
            What calls are searched by is in no name but in errors, of which only the newest 5,000
            were counted. Search a shorter time to count all.
          </p>
        )}
        <History {...history} />
      </section>
      <Groups query={query} groups={groups} />
      <section class="card" aria-labelledby="calls-log">
        <h2 id="calls-log">{query.cursor ? "Earlier calls" : "The newest calls"}</h2>
        {found.calls.length > 0 ? <CallTable calls={found.calls} withAgent /> : (
          <p class="help">
            The calls themselves are kept no longer: only what they sum up to, above.
          </p>
        )}
        <nav class="pages" aria-label="Pages of calls">
          {query.cursor && <a href={url(`/calls?${first}`)}>Newest calls</a>}
          {found.next && <a href={url(`/calls?${older}#calls-log`)} rel="next">Earlier calls</a>}
        </nav>
      </section>
    </div>
  );
}

/** In the results, so that another search is followed as it is asked. */
function Live({ query }: { query: CallQuery }) {
  const url = useUrl();
  return query.cursor
    ? null
    : <div hx-sse:connect={url(`/calls/live?${queryOf(query)}`)} hx-swap="none"></div>;
}

function isFiltered({ text, agent, server, outcome, via }: CallFilter): boolean {
  return Boolean(text || agent || server || outcome || via);
}

function inWords({ calls, failed, toolErrors, medianMs, p95Ms }: CallFigures): string {
  const parts = [count(calls, "call")];
  if (failed) parts.push(`${failed} failed (${percent(failed, calls)})`);
  if (toolErrors) parts.push(`${count(toolErrors, "error")} of tools`);
  if (medianMs !== null && p95Ms !== null) {
    parts.push(`half within ${duration(medianMs)}, 95 % within ${duration(p95Ms)}`);
  }
  return parts.join(", ");
}

function percent(part: number, whole: number): string {
  return `${(part / whole * 100).toFixed(1)} %`;
}

const WIDTH = 600, HEIGHT = 60;

/** Two pictures of the same time; the heading above says their sum in words. */
function History({ from, until, partMs, buckets }: CallResultsProps["history"]) {
  const spanMs = until.getTime() - from.getTime();
  const most = Math.max(...buckets.map(({ ok, failed }) => ok + failed), 1);
  const slowest = Math.max(...buckets.map(({ p95Ms }) => p95Ms ?? 0), 1);
  const x = (at: Date) => (at.getTime() - from.getTime()) / spanMs * WIDTH;
  const height = (n: number) => n / most * HEIGHT;
  // The first and the last part may be cut off by the picture's ends: time goes on.
  const width = Math.max(partMs / spanMs * WIDTH - 1, 1);
  const line = (of: "medianMs" | "p95Ms") =>
    buckets.filter((bucket) => bucket[of] !== null).map((bucket) =>
      `${(x(bucket.at) + width / 2).toFixed(1)},${
        (HEIGHT - 1 - bucket[of]! / slowest * (HEIGHT - 2)).toFixed(1)
      }`
    ).join(" ");
  return (
    <>
      <dl class="charts history">
        <div>
          <dt>Calls</dt>
          <dd>
            up to {most} at a time, <span class="key failed">failed ones</span> on top

            <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true" preserveAspectRatio="none">
              {buckets.map(({ at, ok, failed }) => (
                <>
                  <rect
                    x={x(at).toFixed(1)}
                    y={(HEIGHT - height(ok)).toFixed(1)}
                    width={width.toFixed(1)}
                    height={height(ok).toFixed(1)}
                  />
                  {failed > 0 && (
                    <rect
                      class="failed"
                      x={x(at).toFixed(1)}
                      y={(HEIGHT - height(ok + failed)).toFixed(1)}
                      width={width.toFixed(1)}
                      height={height(failed).toFixed(1)}
                    />
                  )}
                </>
              ))}
            </svg>
          </dd>
        </div>
        <div>
          <dt>Time they took</dt>
          <dd>
            half within this, <span class="key soft">95 % within this</span>; up to{" "}
            {duration(slowest)}

            <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true" preserveAspectRatio="none">
              <polyline class="soft" points={line("p95Ms")} />
              <polyline points={line("medianMs")} />
            </svg>
          </dd>
        </div>
      </dl>
      <p class="help">
        From <Time at={from} /> to <Time at={until} />
      </p>
    </>
  );
}

function Groups({ query, groups }: Pick<CallResultsProps, "query" | "groups">) {
  const url = useUrl();
  const { name } = GROUPS.find(({ by }) => by === query.by)!;
  const place = { tool: null, server: "/servers", agent: "/agents" }[query.by];
  return (
    <section class="card" aria-labelledby="groups">
      <div class="head">
        <h2 id="groups">By {name.toLowerCase()}</h2>
        <nav class="acts" aria-label="Counted by">
          {GROUPS.filter(({ by }) => by !== query.by).map((other) => (
            <a href={url(`/calls?${queryOf({ ...query, by: other.by, cursor: null })}#groups`)}>
              By {other.name.toLowerCase()}
            </a>
          ))}
        </nav>
      </div>
      <div class="table" role="region" aria-label="What the calls sum up to" tabindex={0}>
        <table>
          <thead>
            <tr>
              <th scope="col">{name}</th>
              <th scope="col">Calls</th>
              <th scope="col">Failed</th>
              <th scope="col">Tool's errors</th>
              <th scope="col">Half within</th>
              <th scope="col">95 % within</th>
            </tr>
          </thead>
          <tbody>
            {groups.map((group) => (
              <tr>
                <th scope="row">
                  {place && group.id
                    ? <a href={url(`${place}/${group.id}`)}>{visibleText(group.name)}</a>
                    : <code>{visibleText(group.name)}</code>}
                </th>
                <td>{group.calls.toLocaleString("en")}</td>
                <td>
                  {group.failed}
                  {group.failed > 0 && <small>{percent(group.failed, group.calls)}</small>}
                </td>
                <td>
                  {group.toolErrors}
                  {group.toolErrors > 0 && <small>{percent(group.toolErrors, group.calls)}</small>}
                </td>
                <td>{group.medianMs === null ? "–" : duration(group.medianMs)}</td>
                <td>{group.p95Ms === null ? "–" : duration(group.p95Ms)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {groups.length === 50 && <p class="help">The fifty with the most calls.</p>}
    </section>
  );
}

export const OUTCOMES: Record<Call["outcome"], string> = {
  ok: "✓ ok",
  tool_error: "▲ tool error",
  error: "▲ not run",
  cancelled: "◌ cancelled",
  indeterminate: "▲ may have run",
};

/** Calls, newest first; an agent's own page needs no column that says whose they are. */
export function CallTable({ calls, withAgent = false }: { calls: Call[]; withAgent?: boolean }) {
  const url = useUrl();
  return (
    <div class="table" role="region" aria-label="Each call" tabindex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">When</th>
            {withAgent && <th scope="col">Agent</th>}
            <th scope="col">Tool</th>
            <th scope="col">Outcome</th>
            <th scope="col">Took</th>
            <th scope="col">Sent</th>
            <th scope="col">Received</th>
          </tr>
        </thead>
        <tbody>
          {calls.map((call) => (
            <tr>
              <td>
                <a href={url(`/calls/${call.id}`)}>
                  <Time at={call.startedAt} relative />
                </a>
              </td>
              {withAgent && (
                <td>
                  {call.agentId && call.agentName
                    ? <a href={url(`/agents/${call.agentId}`)}>{call.agentName}</a>
                    : call.via === "trial"
                    ? "tried on a page"
                    : "a removed agent"}
                </td>
              )}
              <td>
                <code>
                  {call.serverId
                    ? <a href={url(`/servers/${call.serverId}`)}>{call.serverSlug}</a>
                    : call.serverSlug} / {visibleText(call.tool)}
                </code>
              </td>
              <td>
                <span class={`status ${call.outcome}`}>{OUTCOMES[call.outcome]}</span>
                {call.error && <small>{visibleText(call.error)}</small>}
              </td>
              <td>{duration(call.durationMs)}</td>
              <td>{bytes(call.requestBytes)}</td>
              <td>{bytes(call.responseBytes)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
