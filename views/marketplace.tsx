import type {
  AskedInput,
  BuildCode,
  CatalogResults,
  CatalogRow,
  ListedEntry,
} from "../models/catalog_entries.ts";
import type { EntryVersion } from "../models/catalog_sources.ts";
import type { Placement } from "../models/placement.ts";
import type { Trust } from "../models/trust.ts";
import type { DeployedServer } from "../models/updates.ts";
import type { Toolbox } from "../models/toolboxes.ts";
import { EntryOrigin, NotDeployable, Notes } from "./catalog_origin.tsx";
import { DeployForm } from "./deploy_form.tsx";
import { type Asked, Chosen, Filters, Pages } from "./marketplace_filters.tsx";
import { isElsewhere, PackageFacts, registryName } from "./package.tsx";
import { Empty } from "./parts.tsx";
import { Tile } from "./tile.tsx";
import { TransportFacts } from "./transport.tsx";
import { TrustPanel } from "./trust.tsx";
import { DeployedFrom } from "./update.tsx";
import { useUrl } from "./url.ts";

export interface MarketplaceProps extends CatalogResults {
  asked: Asked;
  pageSize: number;
  /** By slug. */
  sourceNames: Record<string, string>;
}

export function Marketplace(props: MarketplaceProps) {
  const url = useUrl();
  return (
    <>
      <h1>Marketplace</h1>
      <p class="lead">
        MCP servers that run on your own machine, each in a container of its own. One that runs
        elsewhere? <a href={url("/servers/remote")}>Add a remote server</a>, or{" "}
        <a href={url("/servers/api")}>add a REST API</a>. More of them come from{" "}
        <a href={url("/marketplace/sources")}>catalog sources</a>.
      </p>
      <form
        method="get"
        action={url("/marketplace")}
        role="search"
        class="search"
        hx-get={url("/marketplace/results")}
        hx-target="#results"
        hx-swap="outerMorph"
        hx-trigger="input delay:150ms, change"
        hx-sync="this:replace"
      >
        <label for="query" class="hidden">Search</label>
        <input
          id="query"
          type="search"
          name="q"
          value={props.asked.query}
          placeholder="Search by name or by what it does"
          autocomplete="off"
        />
        <Filters {...props} />
        <button class="no-script">Search</button>
      </form>
      <Results {...props} />
    </>
  );
}

export function Results(props: MarketplaceProps) {
  const { rows, total, asked, meant } = props;
  const url = useUrl();
  if (rows.length === 0) {
    return (
      <div id="results">
        <Chosen {...props} />
        <Empty title="Nothing matches">
          <p>
            {asked.query
              ? `No entry is like “${asked.query.slice(0, 80)}”. Try fewer words, or `
              : "No entry is so. Try fewer filters, or "}
            <a href={url("/marketplace")}>see all</a>.
          </p>
        </Empty>
      </div>
    );
  }
  const first = (asked.page - 1) * props.pageSize + 1;
  return (
    <div id="results">
      <Chosen {...props} />
      <p class="help" aria-live="polite">
        {meant !== null && `No entry has “${asked.query.slice(0, 80)}”. This is for “${meant}”: `}
        {rows.length < total
          ? `${first} to ${first + rows.length - 1} of ${entriesOf(total)}`
          : entriesOf(total)}
      </p>
      <ul class="cards">{rows.map((row) => <Card row={row} />)}</ul>
      <Pages asked={asked} total={total} pageSize={props.pageSize} />
    </div>
  );
}

function entriesOf(n: number): string {
  return n === 1 ? "1 entry" : `${n.toLocaleString("en")} entries`;
}

function Card({ row: { entry, obstacle, sourceId, sourceName, isVerified } }: { row: CatalogRow }) {
  const url = useUrl();
  return (
    <li class={`card entry${obstacle === null ? "" : " listed"}`}>
      <Tile title={entry.title} />
      <div>
        <h2>
          <a href={url(`/marketplace/${entry.slug}`)}>{entry.title}</a>
        </h2>
        <p>{entry.summary}</p>
        <p class="badges">
          <span class="badge">{entry.category}</span>
          {obstacle === null
            ? (
              <>
                <span class="badge">{registryName(entry.package)}</span>
                {entry.transport.type !== "stdio" && <span class="badge">speaks HTTP</span>}
                {needsSecret(entry) && <span class="badge">needs a key</span>}
                <span class="badge">
                  {usesNetwork(entry) ? "uses the network" : "no network"}
                </span>
              </>
            )
            : <span class="badge warn">listed, not deployable here</span>}
          {isVerified && <span class="badge">verified</span>}
          {sourceId !== null && <span class="badge">from {sourceName}</span>}
        </p>
        {obstacle !== null && <p class="why">{obstacle}.</p>}
      </div>
    </li>
  );
}

export interface EntryProps {
  row: CatalogRow;
  versions: EntryVersion[];
  trust: Trust;
  /** The workspace's servers of it. */
  deployed: DeployedServer[];
  entry: ListedEntry;
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
          <Notes of={props.row} />
          <p class="prose">{entry.description || entry.summary}</p>
          <dl class="facts">
            <PackageFacts of={entry.package} />
            {!isElsewhere(entry.package) && <TransportFacts of={entry.transport} />}
            <dt>License</dt>
            <dd>{entry.license || "Its source does not say"}</dd>
            {entry.homepage && (
              <>
                <dt>Home page</dt>
                <dd>
                  <a href={entry.homepage} rel="noreferrer">{entry.homepage}</a>
                </dd>
              </>
            )}
          </dl>
          {props.row.obstacle === null && (
            <>
              <h2>What it will be allowed</h2>
              <Allowances entry={entry} buildCode={props.buildCode} />
            </>
          )}
          <DeployedFrom servers={props.deployed} />
          {props.row.obstacle === null && <TrustPanel trust={props.trust} />}
          <EntryOrigin row={props.row} versions={props.versions} />
        </section>
        <section class="card" aria-labelledby="deploy">
          <h2 id="deploy">Deploy</h2>
          {props.row.obstacle === null
            ? <DeployForm {...props} />
            : <NotDeployable row={props.row} />}
        </section>
      </div>
    </>
  );
}

/** What a container of it will be allowed, in plain words. */
export function Allowances({ entry, buildCode }: Pick<EntryProps, "entry" | "buildCode">) {
  const { hosts } = entry.network;
  return (
    <ul class="plain">
      <li>
        {hosts.length === 0
          ? entry.package.registry === "remote"
            ? "The host of its URL, and nothing else."
            : "No network at all."
          : (
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
          : entry.package.registry === "oci" || entry.package.registry === "image"
          ? "Its image is taken as it is, by digest: nothing of it runs before the server does."
          : entry.package.registry === "remote"
          ? "The server itself runs elsewhere: here is an adapter that reaches it and nothing else."
          : "No install scripts run while the image is built."}
      </li>
    </ul>
  );
}

function needsSecret(entry: ListedEntry): boolean {
  return [...entry.environment, ...entry.arguments]
    .flatMap((input) => [input, ...Object.values(input.variables ?? {})])
    .some((input) => input.isSecret && input.isRequired);
}

function usesNetwork({ network, package: wanted }: ListedEntry): boolean {
  return network.hosts.length > 0 || wanted.registry === "remote";
}
