import { type Context, Hono } from "hono";
import type { Child } from "hono/jsx";
import { readServerLog } from "../mcp/server_records.ts";
import { getAuthorization } from "../models/authorizations.ts";
import { callFigures } from "../models/call_search.ts";
import { askedInputs } from "../models/catalog_entries.ts";
import { listDefinitions } from "../models/definitions.ts";
import { allowHost, listDenials } from "../models/egress_denials.ts";
import { Conflict, Invalid, NotFound } from "../models/errors.ts";
import { listEvents } from "../models/events.ts";
import { listSamples } from "../models/samples.ts";
import { readScans } from "../models/scans.ts";
import { digestsBy } from "../models/image_digests.ts";
import { getGeneration, listGenerations } from "../models/generations.ts";
import { getServer, reconfigureServer, type Server } from "../models/servers.ts";
import { listTools } from "../models/tools.ts";
import { readServerTrust } from "../models/trust.ts";
import { getUpdate, skipUpdate, updateServer, type UpdateStatus } from "../models/updates.ts";
import { ServerAccount } from "../views/authorization.tsx";
import { DefinitionList } from "../views/definitions.tsx";
import {
  SERVER_TABS,
  ServerFrame,
  ServerGone,
  ServerHead,
  type ServerTab,
  ServerTabs,
  tabPath,
  tabTitle,
} from "../views/server.tsx";
import { type ConfigurationProps, ConfigurationTab } from "../views/server_configuration.tsx";
import { EventsTab, ServerEvents } from "../views/server_events.tsx";
import { GenerationPage, Generations } from "../views/server_generations.tsx";
import { LogTab, ServerLog } from "../views/server_log.tsx";
import { NetworkNow, ServerNetwork } from "../views/server_network.tsx";
import {
  ServerFacts,
  ServerLayers,
  ServerOverview,
  type ServerOverviewProps,
  ServerTrust,
} from "../views/server_overview.tsx";
import { ServerResources } from "../views/server_resources.tsx";
import { TryTab } from "../views/server_try.tsx";
import { ServerVulnerabilities } from "../views/server_vulnerabilities.tsx";
import { ToolList } from "../views/tools.tsx";
import { ServerUpdate } from "../views/update.tsx";
import type { Deps, Env } from "./deps.ts";
import { live, type Part } from "./live.ts";
import { formOf, goTo, page } from "./render.tsx";

/** A tab's own content, and the parts of it that follow changes. */
interface TabContent {
  content: Child;
  parts: Part[];
}

const EVENTS_OF_OVERVIEW = 10, EVENTS_A_PAGE = 100, GENERATIONS_A_PAGE = 20;

/** What is typed there, live news must not take away. */
function hasFields({ offer }: UpdateStatus): boolean {
  return offer !== null && (offer.asks.length > 0 || offer.asksConsent !== null);
}

/** A server's page: tabs, each with an address, that read what they show and nothing else. */
export function serverTabRoutes(deps: Deps) {
  const { db, secretsKey } = deps;
  const digestOf = digestsBy(deps.outside);
  type At = Context<Env>;

  const read: Record<ServerTab, (c: At, server: Server) => Promise<TabContent>> = {
    overview: (c, server) => overview(c, server),

    async tools(c, server) {
      const [tools, definitions] = await Promise.all([
        listTools(db, c.get("user"), server.id),
        listDefinitions(db, c.get("user"), server.id),
      ]);
      const list = <ToolList server={server} tools={tools} />;
      const others = <DefinitionList serverId={server.id} definitions={definitions} />;
      return {
        content: [list, others],
        parts: [
          { target: "#tools", content: list },
          { target: "#definitions", content: others },
        ],
      };
    },

    async try(c, server) {
      const tools = await listTools(db, c.get("user"), server.id);
      const content = <TryTab server={server} tools={tools} />;
      return { content, parts: [{ target: "#try", content }] };
    },

    log: (_, server) =>
      Promise.resolve({
        content: <LogTab server={server} found={null} search="" />,
        parts: [{ target: "#log", content: <ServerLog server={server} isWhole /> }],
      }),

    network: (c, server) => network(c, server),

    configuration: (c, server) => configuration(c, server),

    async events(c, server) {
      const before = /^\d{1,18}$/.exec(c.req.query("before") ?? "")?.[0];
      const found = await listEvents(db, c.get("user"), { serverId: server.id }, {
        limit: EVENTS_A_PAGE + 1,
        before,
      });
      const events = found.slice(0, EVENTS_A_PAGE);
      const older = found.length > EVENTS_A_PAGE ? events.at(-1)!.id : null;
      const content = <EventsTab {...{ server, events, older, isFirst: !before }} />;
      // What is earlier than something does not change.
      return { content, parts: before ? [] : [{ target: "#all-events", content }] };
    },
  };

  return new Hono<Env>()
    .get("/servers/:id", (c) => show(c, "overview"))
    .get("/servers/:id/tools", (c) => show(c, "tools"))
    .get("/servers/:id/try", (c) => show(c, "try"))
    .get("/servers/:id/log", async (c) => {
      const { search = "", all, download } = c.req.query();
      if (download !== undefined) return await downloadLog(c, search);
      if (!search && all === undefined) return await show(c, "log");
      const server = await getServer(db, c.get("user"), idOf(c));
      const found = await wholeLog(c, search);
      const tab = { content: <LogTab {...{ server, found, search }} />, parts: [] };
      return answer(c, server, "log", tab, "trouble" in found ? 409 : 200);
    })
    .get("/servers/:id/network", (c) => show(c, "network"))
    .get("/servers/:id/configuration", (c) => show(c, "configuration"))
    .get("/servers/:id/events", (c) => show(c, "events"))
    .get("/servers/:id/generations/:generation", async (c) => {
      const server = await getServer(db, c.get("user"), idOf(c));
      const number = /^[1-9]\d{0,8}$/.exec(c.req.param("generation"))?.[0];
      if (!number) throw new NotFound("There is no such generation");
      const row = await getGeneration(db, c.get("user"), server.id, Number(number));
      const name = `Generation ${number}`;
      return page(
        c,
        `${name} of ${server.name}`,
        <ServerFrame server={server} at="configuration" below={name}>
          <GenerationPage server={server} row={row} />
        </ServerFrame>,
      );
    })
    .get("/servers/:id/live", (c) => {
      const id = idOf(c), user = c.get("user");
      const tab = SERVER_TABS.find((tab) => tab === c.req.query("tab")) ?? "overview";
      const concerns = (change: { server: string | null; table: string }) =>
        change.server === id || change.table === "toolboxes";
      return live(c, deps, concerns, async () => {
        try {
          const server = await getServer(db, user, id);
          return [
            { target: "#server-head", content: <ServerHead server={server} /> },
            { target: "#server-tabs", content: <ServerTabs server={server} at={tab} /> },
            ...(await read[tab](c, server)).parts,
          ];
        } catch (error) {
          if (!(error instanceof NotFound)) throw error;
          return [{ target: "#server-head", content: <ServerGone /> }];
        }
      });
    })
    .post("/servers/:id/configuration", async (c) => {
      const id = idOf(c), form = await formOf(c);
      try {
        const change = { form, baseGeneration: Number(form.baseGeneration) };
        await reconfigureServer(db, c.get("user"), id, change, secretsKey);
        return goTo(c, tabPath(id, "configuration"), "saved");
      } catch (error) {
        if (!(error instanceof Invalid || error instanceof Conflict)) throw error;
        const server = await getServer(db, c.get("user"), id);
        const tab = await configuration(c, server, {
          values: form,
          mistakes: error instanceof Invalid ? error.fields : {},
          mistake: error.message,
        });
        return answer(c, server, "configuration", tab, error instanceof Conflict ? 409 : 422);
      }
    })
    .post("/servers/:id/hosts", async (c) => {
      const id = idOf(c), { host = "" } = await formOf(c);
      try {
        await allowHost(db, c.get("user"), id, host.trim().toLowerCase());
        return goTo(c, tabPath(id, "network"), "hosts-saved");
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        const server = await getServer(db, c.get("user"), id);
        const tab = await network(c, server, { host, mistake: error.message });
        return answer(c, server, "network", tab, 422);
      }
    })
    .post("/servers/:id/update", async (c) => {
      const id = idOf(c), { update = "", ...form } = await formOf(c);
      try {
        await updateServer(db, c.get("user"), id, { update, form }, secretsKey, digestOf);
        return goTo(c, `/servers/${id}`, "updating");
      } catch (error) {
        if (!(error instanceof Invalid || error instanceof Conflict)) throw error;
        const mistakes = error instanceof Invalid ? error.fields : {};
        const server = await getServer(db, c.get("user"), id);
        const tab = await overview(c, server, {
          updateAgain: { values: form, mistakes, mistake: error.message },
        });
        return answer(c, server, "overview", tab, error instanceof Conflict ? 409 : 422);
      }
    })
    .post("/servers/:id/update/skip", async (c) => {
      const id = idOf(c), { update } = await formOf(c);
      await skipUpdate(db, c.get("user"), id, update || null);
      return goTo(c, `/servers/${id}`, update ? "skipped" : "offered-again");
    });

  function idOf(c: At): string {
    return c.req.param("id")!;
  }

  async function show(c: At, tab: ServerTab) {
    const server = await getServer(db, c.get("user"), idOf(c));
    return answer(c, server, tab, await read[tab](c, server));
  }

  function answer(
    c: At,
    server: Server,
    tab: ServerTab,
    { content }: TabContent,
    status: 200 | 409 | 422 = 200,
  ) {
    return page(
      c,
      tabTitle(server, tab),
      <ServerFrame server={server} at={tab}>{content}</ServerFrame>,
      status,
    );
  }

  async function downloadLog(c: At, search: string) {
    const { slug } = await getServer(db, c.get("user"), idOf(c));
    const text = await readServerLog(deps, c.get("user"), idOf(c), {
      search,
      signal: c.req.raw.signal,
    });
    return c.body(text, 200, {
      "content-type": "text/plain; charset=utf-8",
      "content-disposition": `attachment; filename="${slug}.log"`,
      "cache-control": "no-store",
    });
  }

  /** What the toolbox keeps; or why it does not say, in place of which the end of the log is shown. */
  async function wholeLog(c: At, search: string) {
    const asked = { search, signal: c.req.raw.signal };
    try {
      return { text: await readServerLog(deps, c.get("user"), idOf(c), asked) };
    } catch (error) {
      if (!(error instanceof Conflict)) throw error;
      return { trouble: `${error.message}. This is its end as it was last reported.` };
    }
  }

  async function overview(
    c: At,
    server: Server,
    again: Pick<ServerOverviewProps, "updateAgain"> = {},
  ): Promise<TabContent> {
    const user = c.get("user"), serverId = server.id;
    const [events, samples, figures, scans, authorization, update] = await Promise.all([
      listEvents(db, user, { serverId }, { limit: EVENTS_OF_OVERVIEW }),
      listSamples(db, user, serverId),
      callFigures(db, user, serverId),
      readScans(db, user, serverId),
      getAuthorization(db, user, { serverId, agentId: null }),
      getUpdate(db, user, serverId),
    ]);
    const trust = await readServerTrust(db, user, server, scans);
    const props = {
      server,
      events,
      samples,
      figures,
      scans,
      authorization,
      update,
      trust,
      ...again,
    };
    return {
      content: <ServerOverview {...props} />,
      parts: [
        { target: "#layers", content: <ServerLayers server={server} /> },
        ...(hasFields(update)
          ? []
          : [{ target: "#update", content: <ServerUpdate server={server} update={update} /> }]),
        { target: "#account", content: <ServerAccount {...props} /> },
        { target: "#log", content: <ServerLog server={server} /> },
        { target: "#events", content: <ServerEvents {...props} /> },
        { target: "#facts", content: <ServerFacts server={server} /> },
        { target: "#resources", content: <ServerResources {...props} /> },
        { target: "#trust", content: <ServerTrust server={server} trust={trust} /> },
        { target: "#vulnerabilities", content: <ServerVulnerabilities {...props} /> },
      ],
    };
  }

  async function network(
    c: At,
    server: Server,
    again: { host?: string; mistake?: string } = {},
  ): Promise<TabContent> {
    const denials = await listDenials(db, c.get("user"), server.id);
    return {
      content: <ServerNetwork server={server} denials={denials} {...again} />,
      parts: [{ target: "#network", content: <NetworkNow server={server} denials={denials} /> }],
    };
  }

  async function configuration(
    c: At,
    server: Server,
    again: Partial<ConfigurationProps> = {},
  ): Promise<TabContent> {
    const before = Number(/^[1-9]\d{0,8}$/.exec(c.req.query("before") ?? "")?.[0]);
    const found = await listGenerations(db, c.get("user"), server.id, {
      limit: GENERATIONS_A_PAGE + 1,
      before: before || undefined,
    });
    const generations = found.slice(0, GENERATIONS_A_PAGE);
    const older = found.length > GENERATIONS_A_PAGE ? generations.at(-1)!.generation : null;
    const props = { server, generations, older, asked: askedInputs(server.config.entry), ...again };
    return {
      content: <ConfigurationTab {...props} />,
      // Not the form: somebody types in it.
      parts: before ? [] : [{ target: "#generations", content: <Generations {...props} /> }],
    };
  }
}
