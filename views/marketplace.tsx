import type { AskedInput, BuildCode, CatalogEntry, CatalogRow } from "../models/catalog_entries.ts";
import type { Placement } from "../models/placement.ts";
import type { Toolbox } from "../models/toolboxes.ts";
import { DeployForm } from "./deploy_form.tsx";
import { PackageFacts, registryName } from "./package.tsx";
import { count, Empty } from "./parts.tsx";
import { TransportFacts } from "./transport.tsx";
import { Tile } from "./tile.tsx";
import { useUrl } from "./url.ts";

export interface MarketplaceProps {
  rows: CatalogRow[];
  total: number;
  categories: { name: string; count: number }[];
  query: string;
  category: string;
}

export function Marketplace(props: MarketplaceProps) {
  const url = useUrl();
  return (
    <>
      <h1>Marketplace</h1>
      <p class="lead">
        MCP servers that run on your own machine, each in a container of its own. One that runs
        elsewhere? <a href={url("/servers/remote")}>Add it by its URL</a>.
      </p>
      <form
        method="get"
        action={url("/marketplace")}
        role="search"
        class="search"
        hx-get={url("/marketplace/results")}
        hx-target="#results"
        hx-swap="outerHTML"
        hx-trigger="input delay:150ms, change"
      >
        <label for="query" class="hidden">Search</label>
        <input
          id="query"
          type="search"
          name="q"
          value={props.query}
          placeholder="Search by name or by what it does"
          autocomplete="off"
        />
        <label for="category" class="hidden">Category</label>
        <select id="category" name="category">
          <option value="">All categories</option>
          {props.categories.map(({ name, count }) => (
            <option value={name} selected={name === props.category}>{name} ({count})</option>
          ))}
        </select>
        <button class="no-script">Search</button>
      </form>
      <Results {...props} />
    </>
  );
}

export function Results({ rows, total, query }: MarketplaceProps) {
  const url = useUrl();
  if (rows.length === 0) {
    return (
      <div id="results">
        <Empty title="Nothing matches">
          <p>
            No entry holds every word of “{query}”. Try fewer words, or{" "}
            <a href={url("/marketplace")}>see all</a>.
          </p>
        </Empty>
      </div>
    );
  }
  return (
    <div id="results">
      <p class="help" aria-live="polite">
        {rows.length < total
          ? `The best ${rows.length} of ${count(total, "entry").replace("entrys", "entries")}`
          : total === 1
          ? "1 entry"
          : `${total} entries`}
      </p>
      <ul class="cards">
        {rows.map(({ entry }) => (
          <li class="card entry">
            <Tile title={entry.title} />
            <div>
              <h2>
                <a href={url(`/marketplace/${entry.slug}`)}>{entry.title}</a>
              </h2>
              <p>{entry.summary}</p>
              <p class="badges">
                <span class="badge">{entry.category}</span>
                <span class="badge">{registryName(entry.package)}</span>
                {entry.transport.type !== "stdio" && <span class="badge">speaks HTTP</span>}
                {needsSecret(entry) && <span class="badge">needs a key</span>}
                <span class="badge">
                  {entry.network.hosts.length ? "uses the network" : "no network"}
                </span>
              </p>
            </div>
          </li>
        ))}
      </ul>
    </div>
  );
}

export interface EntryProps {
  entry: CatalogEntry;
  asked: AskedInput[];
  /** What its build runs of its own; null: nothing. */
  buildCode: BuildCode | null;
  toolboxes: Toolbox[];
  placement: Placement;
  /** Where none of them fits: why, and what to do. */
  nothingFits: string | null;
  idempotencyKey: string;
  values: Record<string, string>;
  mistakes: Record<string, string>;
  mistake?: string;
}

/** One entry: what it is, what it will be allowed, and the form that deploys it. */
export function Entry(props: EntryProps) {
  const { entry } = props;
  const url = useUrl();
  return (
    <>
      <p class="crumbs">
        <a href={url("/marketplace")}>Marketplace</a> / {entry.title}
      </p>
      <div class="title">
        <Tile title={entry.title} />
        <h1>{entry.title}</h1>
      </div>
      <p class="lead">{entry.summary}</p>
      <div class="columns">
        <section aria-labelledby="about">
          <h2 id="about">About</h2>
          <p>{entry.description}</p>
          <dl class="facts">
            <PackageFacts of={entry.package} />
            {entry.package.registry !== "remote" && <TransportFacts of={entry.transport} />}
            <dt>License</dt>
            <dd>{entry.license}</dd>
            <dt>Home page</dt>
            <dd>
              <a href={entry.homepage} rel="noreferrer">{entry.homepage}</a>
            </dd>
          </dl>
          <h2>What it will be allowed</h2>
          <Allowances entry={entry} buildCode={props.buildCode} />
        </section>
        <section class="card" aria-labelledby="deploy">
          <h2 id="deploy">Deploy</h2>
          <DeployForm {...props} />
        </section>
      </div>
    </>
  );
}

function Allowances({ entry, buildCode }: Pick<EntryProps, "entry" | "buildCode">) {
  const { hosts } = entry.network;
  return (
    <ul class="plain">
      <li>
        {hosts.length === 0 ? "No network at all." : (
          <>
            Network. It says that it needs {hosts.map((host, i) => (
              <>
                {i > 0 && ", "}
                <code>{host}</code>
              </>
            ))}, and it reaches nothing else. What it wants besides is refused, and shown on its
            page.
          </>
        )}
      </li>
      <li>
        No files of this machine. Its own image is read-only; <code>/work</code> and{" "}
        <code>/tmp</code> are in memory and emptied when it restarts.{" "}
        {entry.volumes.length > 0 && (
          <>
            It keeps its data in a volume at {entry.volumes.map(({ path }, i) => (
              <>
                {i > 0 && ", "}
                <code>{path}</code>
              </>
            ))}, which outlives it.
          </>
        )}
      </li>
      <li>
        At most {entry.memoryMiB}{" "}
        MiB of memory, one processor, 128 processes. No privileges, and none to be gained.
        {entry.tier === "untrusted" &&
          " It asks for a sandbox (gVisor, Kata), so it runs on no toolbox without one."}
      </li>
      <li>
        {buildCode === "dockerfile"
          ? "Its Dockerfile runs what it likes while the image is built, with access to the network."
          : buildCode === "install-scripts"
          ? "Its packages run install scripts while the image is built, with access to the network."
          : entry.package.registry === "oci"
          ? "Its image is taken as it is, by digest: nothing of it runs before the server does."
          : entry.package.registry === "remote"
          ? "The server itself runs elsewhere: here is an adapter that reaches it and nothing else."
          : "No install scripts run while the image is built."}
      </li>
    </ul>
  );
}

function needsSecret(entry: CatalogEntry): boolean {
  return [...entry.environment, ...entry.arguments].some((input) =>
    input.isSecret && input.isRequired
  );
}
