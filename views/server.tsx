import type { Child } from "hono/jsx";
import type { Server } from "../models/servers.ts";
import { Form } from "./form.tsx";
import { Confirm, Empty, Field, Status } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** The tabs of a server's page, in their order; each is a page of its own. */
export const SERVER_TABS = [
  "overview",
  "tools",
  "try",
  "log",
  "network",
  "configuration",
  "events",
] as const;
export type ServerTab = (typeof SERVER_TABS)[number];

/** Where a tab is. */
export function tabPath(serverId: string, tab: ServerTab): string {
  return `/servers/${serverId}${tab === "overview" ? "" : `/${tab}`}`;
}

const TABS: Record<ServerTab, { name: string; title: (server: string) => string }> = {
  overview: { name: "Overview", title: (server) => server },
  tools: { name: "Tools", title: (server) => `Tools of ${server}` },
  try: { name: "Try it", title: (server) => `Try ${server}` },
  log: { name: "Log", title: (server) => `Log of ${server}` },
  network: { name: "Network", title: (server) => `Network of ${server}` },
  configuration: { name: "Configuration", title: (server) => `Configuration of ${server}` },
  events: { name: "Events", title: (server) => `Events of ${server}` },
};

/** What a browser calls the page. */
export function tabTitle(server: Server, tab: ServerTab): string {
  return TABS[tab].title(server.name);
}

/**
 * What every tab of a server's page begins with: what it is and how it is, and the way to the other tabs.
 *
 * @param below what the page is called that lies below the tab
 */
export function ServerFrame(
  { server, at, below, children }: {
    server: Server;
    at: ServerTab;
    below?: string;
    children?: Child;
  },
) {
  const url = useUrl();
  return (
    <>
      <p class="crumbs">
        <a href={url("/servers")}>Servers</a> / {at === "overview" ? server.name : (
          <>
            <a href={url(`/servers/${server.id}`)}>{server.name}</a> / {below
              ? (
                <>
                  <a href={url(tabPath(server.id, at))}>{TABS[at].name}</a> / {below}
                </>
              )
              : TABS[at].name}
          </>
        )}
      </p>
      {!below && (
        <div hx-sse:connect={url(`/servers/${server.id}/live?tab=${at}`)} hx-swap="none"></div>
      )}
      <ServerHead server={server} />
      {below ? <ServerTabs server={server} below={at} /> : <ServerTabs server={server} at={at} />}
      {children}
    </>
  );
}

export function ServerHead({ server }: { server: Server }) {
  const url = useUrl();
  const path = url(`/servers/${server.id}`);
  const isGoing = server.removedAt !== null;
  return (
    <div id="server-head">
      <div class="head">
        <h1>{server.name}</h1>
        <div class="acts">
          {!isGoing && server.running && server.status !== "failed" && (
            <Form action={`${path}/stop`}>
              <button class="quiet">Stop</button>
            </Form>
          )}
          {!isGoing && (!server.running || server.status === "failed") && (
            <Form action={`${path}/run`}>
              <button>{server.running ? "Try again" : "Start"}</button>
            </Form>
          )}
          {!isGoing && server.running && server.status !== "failed" && (
            <Form action={`${path}/restart`}>
              <button class="quiet">Restart</button>
            </Form>
          )}
          {!isGoing && (
            <Confirm label="Remove" title={`Remove ${server.name}?`} action={`${path}/remove`}>
              <p>
                Its container, its network, its image (if no other server uses it), its secrets, its
                approvals and its connections to agents go. Its calls and events stay in the log.
              </p>
              {server.config.entry.volumes.length > 0 && (
                <Field
                  name="deleteVolumes"
                  label="Delete the data that it keeps, too"
                  type="checkbox"
                  help="Otherwise its volumes stay on the toolbox."
                />
              )}
            </Confirm>
          )}
        </div>
      </div>
      <p class="verdict">
        <Status of={server.status} /> <span>{visibleText(server.statusDetail)}</span>
      </p>
    </div>
  );
}

/**
 * Links, and no ARIA tabs: each is a page with an address of its own.
 *
 * @param below the tab that a page without one belongs to
 */
export function ServerTabs(
  { server, at, below }: { server: Server; at?: ServerTab; below?: ServerTab },
) {
  const url = useUrl();
  const toRead = server.tools.changed + server.tools.waiting + server.definitionsWithheld;
  const news: Partial<Record<ServerTab, string>> = {
    tools: toRead > 0 ? `${toRead} to read` : undefined,
    network: server.denials > 0 ? `${server.denials} refused` : undefined,
  };
  return (
    <nav id="server-tabs" class="tabs" aria-label="Pages of the server">
      {SERVER_TABS.map((tab) => (
        <a
          href={url(tabPath(server.id, tab))}
          aria-current={tab === at ? "page" : tab === below ? "true" : undefined}
        >
          {/* Links of old led to parts of one long page: app.js follows them to the tab. */}
          {at === "overview" && MOVED[tab]?.map((id) => <span id={id}></span>)}
          {TABS[tab].name}
          {news[tab] && <span class="badge warn">{news[tab]}</span>}
        </a>
      ))}
    </nav>
  );
}

const MOVED: Partial<Record<ServerTab, string[]>> = {
  tools: ["tools", "definitions"],
  network: ["network", "network-title"],
  configuration: ["configuration", "generations"],
};

/** In place of a server's page once its toolbox has removed it. */
export function ServerGone() {
  const url = useUrl();
  return (
    <div id="server-head">
      <Empty title="This server was removed">
        <p>
          Its container, network and secrets are gone.{" "}
          <a href={url("/servers")}>Back to the servers</a>.
        </p>
      </Empty>
    </div>
  );
}
