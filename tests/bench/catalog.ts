/**
 * The marketplace with 10,000 entries: how long a search takes in the database, and a page of it in the
 * app, on the embedded Postgres and on a server.
 */
import { searchCatalog } from "../../models/catalog_entries.ts";
import { addSource } from "../../models/catalog_sources.ts";
import { syncDueSources } from "../../models/catalog_sync.ts";
import { createLog } from "../../models/log.ts";
import { FakeRegistry } from "../catalogs/fake_registry.ts";
import { KINDS, openWorld } from "../models/databases.ts";
import { openPageApp, ORIGIN, signedIn } from "../routes/page_app.ts";

const ENTRIES = 10_000;

/** What is asked of the marketplace, as people type it and as its page does. */
const SEARCHES: Record<string, Record<string, string>> = {
  "nothing typed": {},
  "one letter": { q: "g" },
  "a common word": { q: "search" },
  "two words": { q: "github issues" },
  "a name": { q: "postgres" },
  "a word's beginning": { q: "kub" },
  "a typo": { q: "postgers" },
  "a typo in two words": { q: "gihtub isues" },
  "nothing like it": { q: "qqqqzzzz" },
  "filters": { runtime: "npm", secrets: "yes", deployable: "yes" },
  "filters and a word": { q: "data", runtime: "npm", network: "no" },
  "by time": { sort: "updated" },
  "the last page": { page: "400" },
};

/** Measures each search `count` times. */
export async function measureCatalog(count: number): Promise<void> {
  for (const kind of KINDS) {
    if (kind.ignore) continue;
    const world = await openWorld(kind);
    const { db, owner, workspaceId } = world;
    const log = createLog("text", () => {});
    const registry = madeRegistry();
    const started = performance.now();
    await addSource(db, world.user, workspaceId, {
      name: "Made",
      kind: "registry",
      url: "https://registry.example.com",
    });
    await syncDueSources({ db, log, outside: registry.outside }, { budgetMs: 600_000 });
    const syncedMs = performance.now() - started;
    if (kind.name === "server") await owner`analyze`;
    const { cookie, person } = await signedIn(world, "owner");
    const { app, close } = await openPageApp(world);
    const page = async (path: string) => {
      const response = await app.request(`${ORIGIN}${path}`, {
        headers: { cookie, "accept-encoding": "gzip" },
      });
      if (response.status !== 200) throw new Error(`${path}: ${response.status}`);
      return (await response.arrayBuffer()).byteLength;
    };
    console.log(
      `\ncatalog: ${ENTRIES} entries on the ${kind.name} database, synced in ${
        (syncedMs / 1000).toFixed(1)
      } s; ms, each ${count} times`,
    );
    console.log(
      `${"".padEnd(22)}${"found".padStart(7)}${"search p50".padStart(12)}${"p95".padStart(8)}${
        "page p50".padStart(11)
      }${"p95".padStart(8)}${"KiB".padStart(7)}`,
    );
    const everyPage: number[] = [];
    for (const [name, { q = "", page: number = "1", ...filters }] of Object.entries(SEARCHES)) {
      const options = {
        query: q,
        ...filters,
        workspaceId,
        limit: 24,
        offset: (Number(number) - 1) * 24,
      } as Parameters<typeof searchCatalog>[2];
      const path = `/marketplace?${new URLSearchParams(SEARCHES[name])}`;
      const { total } = await searchCatalog(db, person, options);
      const size = await page(path);
      const search = await times(count, () => searchCatalog(db, person, options));
      const pages = await times(count, () => page(path));
      everyPage.push(...pages);
      console.log(
        `${name.padEnd(22)}${String(total).padStart(7)}${at(search, 0.5).padStart(12)}${
          at(search, 0.95).padStart(8)
        }${at(pages, 0.5).padStart(11)}${at(pages, 0.95).padStart(8)}${
          (size / 1024).toFixed(1).padStart(7)
        }`,
      );
    }
    console.log(`all pages: p50 ${at(everyPage, 0.5)}, p95 ${at(everyPage, 0.95)}`);
    await close();
    await world.close();
  }
}

async function times(count: number, work: () => Promise<unknown>): Promise<number[]> {
  const measured: number[] = [];
  for (let n = 0; n < count; n++) {
    const started = performance.now();
    await work();
    measured.push(performance.now() - started);
  }
  return measured;
}

function at(measured: number[], quantile: number): string {
  const sorted = measured.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * quantile))].toFixed(1);
}

const THINGS =
  ("github gitlab jira slack notion postgres mysql redis mongodb kubernetes docker aws azure " +
    "google drive sheets calendar gmail stripe paypal shopify weather maps news arxiv wikipedia youtube " +
    "spotify discord telegram twilio sendgrid hubspot salesforce zendesk linear asana trello figma canva " +
    "sentry datadog grafana prometheus elastic kafka snowflake bigquery dbt airflow terraform ansible " +
    "playwright puppeteer browser filesystem memory sqlite neo4j pinecone qdrant chroma weaviate")
    .split(" ");
const DEEDS =
  ("search query manage monitor create read analyze summarize translate convert export sync track " +
    "schedule deploy test review index scrape fetch").split(" ");
const OBJECTS =
  ("issues records documents data files messages events tickets metrics logs dashboards invoices " +
    "customers pages tables images videos pull-requests tasks notes").split(" ");

/** Entries whose words come as often as in real catalogs, roughly: the same every time. */
function madeRegistry(): FakeRegistry {
  const registry = new FakeRegistry();
  let seed = 42;
  const pick = <T>(list: T[]): T => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    // Squared: some are far more frequent than others.
    return list[Math.floor((seed / 2147483648) ** 2 * list.length)];
  };
  registry.servers = Array.from({ length: ENTRIES }, (_, n) => {
    const thing = pick(THINGS), deed = pick(DEEDS), object = pick(OBJECTS);
    const name = `io.github.dev${n % 997}/${thing}-${deed}-${n}`;
    const isRemote = n % 7 === 0, isBundle = n % 11 === 0;
    return {
      name,
      version: `1.${n % 20}.0`,
      updatedAt: new Date(Date.UTC(2026, 0, 1) + n * 60_000).toISOString(),
      server: {
        title: `${thing[0].toUpperCase()}${thing.slice(1)} ${deed} ${n % 100}`,
        description: `Lets agents ${deed} ${object} of ${thing}, and ${pick(DEEDS)} ${
          pick(OBJECTS)
        }. ${Array.from({ length: 20 }, () => pick(OBJECTS)).join(" ")}`,
        ...isRemote
          ? {
            packages: [],
            remotes: [{ type: "streamable-http", url: `https://mcp${n}.example.com/mcp` }],
          }
          : {
            packages: [{
              registryType: isBundle ? "mcpb" : n % 3 === 0 ? "pypi" : n % 5 === 0 ? "oci" : "npm",
              identifier: n % 5 === 0 && n % 3 !== 0
                ? `docker.io/dev/${thing}-${n}`
                : `${thing}-${deed}-${n}`,
              version: `1.${n % 20}.0`,
              transport: { type: "stdio" },
              environmentVariables: n % 2 === 0
                ? [{ name: "API_KEY", isRequired: true, isSecret: true, description: "The key" }]
                : [],
            }],
          },
      },
    };
  });
  return registry;
}
