import type { Acted, ServerAct } from "../models/server_acts.ts";
import type { ServerFilter, ServerNeed, ServerPage } from "../models/server_search.ts";
import type { Server } from "../models/servers.ts";
import type { Offer } from "../models/offers.ts";
import { Form, useMay } from "./form.tsx";
import { packageTitle } from "./package.tsx";
import { count, Empty, STATUS, Status, Time } from "./parts.tsx";
import {
  isFiltered,
  NEEDS,
  ServerPages,
  ServerSearch,
  serversPath,
  SortHeading,
} from "./server_filters.tsx";
import { tabPath } from "./server.tsx";
import { offerTitle } from "./update.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** A server of the list, with what of it waits for a person, and the newer version that it can be given. */
export type ListedServer = Server & { needs: ServerNeed[]; offer: Offer | null };

export interface ServersProps {
  filter: ServerFilter;
  found: Omit<ServerPage, "servers"> & { servers: ListedServer[] };
  /** All of the page are ticked: without script a link does that. */
  isAllTicked?: boolean;
}

export interface ActedProps {
  act?: ServerAct;
  results?: Acted[];
  mistake?: string;
}

export function Servers({ acted = {}, ...props }: ServersProps & { acted?: ActedProps }) {
  const url = useUrl();
  const { filter, found } = props;
  return (
    <>
      <div class="head">
        <h1>Servers</h1>
        <p class="acts">
          <a href={url("/servers/remote")}>Add a remote server</a>
          <a href={url("/servers/api")}>Add a REST API</a>
          <a class="button" href={url("/marketplace")}>Deploy a server</a>
        </p>
      </div>
      {found.total > 0 && (
        <>
          <ServerSearch filter={filter} facets={found.facets} />
          <Acts filter={filter} />
        </>
      )}
      <ActedServers {...acted} />
      <ServersLive {...props} />
      <ServerResults {...props} />
    </>
  );
}

/** What can be done with all that are ticked. Apart from the list, which live updates make anew. */
function Acts({ filter }: { filter: ServerFilter }) {
  const url = useUrl();
  const path = serversPath(filter);
  return (
    <Form
      id="acts"
      action={url("/servers/acts")}
      class="acts bulk"
      aria-label="Selected servers"
      hx-post={url("/servers/acts")}
      hx-target="#acted"
      hx-swap="outerMorph"
    >
      <a
        class="button quiet"
        href={url(`${path}${path.includes("?") ? "&" : "?"}tick=all`)}
        data-tick="server"
      >
        Select all on this page
      </a>
      <button class="quiet" name="act" value="start">Start</button>
      <button class="quiet" name="act" value="stop">Stop</button>
      <button class="quiet" name="act" value="restart">Restart</button>
      {/* Which asks: a page of its own says what goes with them. */}
      <button class="quiet" name="act" value="removal">Remove…</button>
      <span class="help" data-ticked="server" aria-live="polite"></span>
    </Form>
  );
}

const DONE: Record<ServerAct, { done: string; needless: string }> = {
  start: { done: "started", needless: "runs already" },
  stop: { done: "stopped", needless: "is stopped already" },
  restart: { done: "asked to restart", needless: "" },
  remove: { done: "asked to be removed", needless: "is being removed already" },
};

/** What became of each; first those with which something is to be done. */
export function ActedServers({ act, results, mistake }: ActedProps) {
  const url = useUrl();
  const of = (outcome: Acted["outcome"]) =>
    results?.filter((each) => each.outcome === outcome) ?? [];
  const [done, needless, failed] = [of("done"), of("needless"), of("failed")];
  return (
    <div id="acted" role="status">
      {mistake && <p class="notice bad">{mistake}</p>}
      {act && results && (
        <div class={failed.length > 0 ? "notice bad" : "notice good"}>
          <p>
            <strong>
              {count(done.length, "server")} {DONE[act].done}
              {failed.length > 0 && `, ${failed.length} not`}
              {needless.length > 0 &&
                `; ${needless.length} left as ${needless.length === 1 ? "it was" : "they were"}`}.
            </strong>{" "}
            {done.length > 0 && <small>Their toolboxes take it up now; the list follows.</small>}
          </p>
          {failed.length > 0 && (
            <ul class="plain">
              {failed.map(({ serverId, name, reason }) => (
                <li>
                  <a href={url(`/servers/${serverId}`)}>{visibleText(name)}</a>:{" "}
                  {visibleText(reason ?? "")}
                </li>
              ))}
            </ul>
          )}
          {needless.length + done.length > 0 && (
            <details>
              <summary>Which</summary>
              <ul class="plain">
                {done.map(({ name }) => <li>{visibleText(name)}: {DONE[act].done}</li>)}
                {needless.map(({ name }) => <li>{visibleText(name)} {DONE[act].needless}</li>)}
              </ul>
            </details>
          )}
        </div>
      )}
    </div>
  );
}

/** Follows what is found. Beside the results, which it makes anew, and another one after each search. */
export function ServersLive({ filter, found }: ServersProps) {
  const url = useUrl();
  const path = serversPath({ ...filter, page: found.page });
  return (
    <div
      id="servers-live"
      hx-sse:connect={url(path.replace("/servers", "/servers/live"))}
      hx-swap="none"
    >
    </div>
  );
}

/** What was found; follows changes live. */
export function ServerResults({ filter, found, isAllTicked }: ServersProps) {
  const url = useUrl();
  const { servers, page, pages } = found;
  const address = serversPath({ ...filter, page });
  return (
    <div id="results">
      {/* Beside what is ticked, the list that it is ticked in. */}
      <input type="hidden" name="list" value={address} form="acts" />
      {found.total === 0
        ? (
          <Empty title="No servers yet">
            <p>Pick one in the marketplace: it is deployed with one click.</p>
            <p>
              <a class="button" href={url("/marketplace")}>Open the marketplace</a>
            </p>
          </Empty>
        )
        : servers.length === 0
        ? (
          <Empty title="No server matches">
            <p>
              <a href={url("/servers")}>See all {found.total}</a>.
            </p>
          </Empty>
        )
        : (
          <>
            <p class="help" id="found">
              {isFiltered(filter)
                ? (
                  <>
                    {found.found} of {count(found.total, "server")}.{" "}
                    <a href={url(serversPath({ ...filter, ...NOTHING_ASKED }))}>See all</a>
                  </>
                )
                : count(found.total, "server")}
            </p>
            <ServerList filter={filter} servers={servers} isAllTicked={isAllTicked} />
            <ServerPages filter={filter} page={page} pages={pages} />
          </>
        )}
    </div>
  );
}

const NOTHING_ASKED: Partial<ServerFilter> = {
  text: "",
  status: null,
  toolbox: null,
  kind: null,
  needs: null,
  page: 1,
};

function ServerList(
  { filter, servers, isAllTicked }: {
    filter: ServerFilter;
    servers: ListedServer[];
    isAllTicked?: boolean;
  },
) {
  const mayAct = useMay()(useUrl()("/servers/acts"));
  return (
    <div id="servers" class="table" role="region" aria-label="Servers" tabindex={0}>
      <table>
        <thead>
          <tr>
            {mayAct && (
              <th scope="col" class="tick">
                <span class="hidden">Select</span>
              </th>
            )}
            <SortHeading by="name" name="Server" filter={filter} />
            <SortHeading by="status" name="Status" filter={filter} />
            <SortHeading by="tools" name="Tools" filter={filter} />
            <th scope="col">Package</th>
            <SortHeading by="toolbox" name="Toolbox" filter={filter} />
            <SortHeading by="deployed" name="Deployed" filter={filter} />
          </tr>
        </thead>
        <tbody>
          {servers.map((server) => <Row server={server} mayAct={mayAct} isTicked={isAllTicked} />)}
        </tbody>
      </table>
    </div>
  );
}

function Row(
  { server, mayAct, isTicked }: { server: ListedServer; mayAct: boolean; isTicked?: boolean },
) {
  const url = useUrl();
  return (
    <tr id={`server-${server.id}`}>
      {mayAct && (
        <td class="tick">
          <input
            type="checkbox"
            name="server"
            value={server.id}
            form="acts"
            checked={isTicked}
            aria-label={`Select ${server.name}`}
          />
        </td>
      )}
      <th scope="row">
        <a href={url(`/servers/${server.id}`)}>{server.name}</a>
        {(server.needs.length > 0 || server.offer) && (
          <span class="badges">
            {server.needs.map((need) => (
              <a class="badge warn" href={url(tabPath(server.id, TAB_OF[need]))}>
                <span class="hidden">{server.name}:</span> {NEEDS[need]}
              </a>
            ))}
            {server.offer && (
              <a class="badge" href={url(`/servers/${server.id}#update`)}>
                <span class="hidden">{server.name}:</span> {offerTitle(server.offer)}
              </a>
            )}
          </span>
        )}
      </th>
      <td>
        <Status of={server.status} />
        <LayerMarks server={server} />
      </td>
      <td>{toolsInWords(server)}</td>
      <td>
        <code>{packageTitle(server.config.entry.package)}</code>
      </td>
      <td>{server.toolboxName}</td>
      <td>
        <Time at={server.createdAt} relative />
      </td>
    </tr>
  );
}

const TAB_OF = { definitions: "tools", denials: "network", crash_loop: "log" } as const;

/** The layers as on the server's page, a sign each; and the sentence of one that has no sign for it. */
function LayerMarks({ server }: { server: Server }) {
  const layers = [
    ["Host", server.host],
    ["Image", server.layers.image],
    ["Container", server.layers.container],
    ["Handshake", server.layers.handshake],
    ["Tools", server.layers.tools],
  ] as const;
  const said = layers.map(([name, { state }]) => `${name}: ${STATUS[state]?.name ?? state}`);
  const isUp = server.status === "running" || server.status === "idle";
  return (
    <>
      <span class="marks" role="img" aria-label={said.join(", ")} title={said.join(", ")}>
        {layers.map(([, { state }]) => (
          <span class={`status ${state}`}>{STATUS[state]?.sign ?? "○"}</span>
        ))}
      </span>
      {!isUp && <small class="why">{visibleText(server.statusDetail)}</small>}
    </>
  );
}

function toolsInWords({ tools }: Server): string {
  if (tools.total === 0) return "none listed";
  const parts = [`${tools.approved} of ${tools.total} approved`];
  if (tools.changed > 0) parts.push(count(tools.changed, "change") + " to read");
  return parts.join(", ");
}
