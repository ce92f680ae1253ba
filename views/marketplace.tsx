import type { AskedInput, CatalogEntry, CatalogRow } from "../models/catalog_entries.ts";
import type { Placement } from "../models/placement.ts";
import type { Toolbox } from "../models/toolboxes.ts";
import { count, Empty, Field, Mistake } from "./parts.tsx";
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
      <p class="lead">MCP servers that run on your own machine, each in a container of its own.</p>
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

/** A tile drawn from the title, so that no icon has to be fetched from anywhere. */
function Tile({ title }: { title: string }) {
  const hue = [...title].reduce((sum, char) => (sum * 31 + char.charCodeAt(0)) % 6, 7);
  return <span class={`tile hue-${hue}`} aria-hidden="true">{title.slice(0, 1)}</span>;
}

export interface EntryProps {
  entry: CatalogEntry;
  asked: AskedInput[];
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
            <dt>Package</dt>
            <dd>
              <code>{entry.package.name}@{entry.package.version}</code> from npm
            </dd>
            <dt>License</dt>
            <dd>{entry.license}</dd>
            <dt>Home page</dt>
            <dd>
              <a href={entry.homepage} rel="noreferrer">{entry.homepage}</a>
            </dd>
          </dl>
          <h2>What it will be allowed</h2>
          <Allowances entry={entry} />
        </section>
        <section class="card" aria-labelledby="deploy">
          <h2 id="deploy">Deploy</h2>
          <DeployForm {...props} />
        </section>
      </div>
    </>
  );
}

function Allowances({ entry }: { entry: CatalogEntry }) {
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
      </li>
      <li>
        {entry.package.installScripts
          ? "Its package runs install scripts while the image is built."
          : "No install scripts run while the image is built."}
      </li>
    </ul>
  );
}

function DeployForm(props: EntryProps) {
  const { entry, toolboxes, placement } = props;
  const url = useUrl();
  const choosable = placement.fits.filter((fit) => fit.isChoosable);
  if (choosable.length === 0) {
    return (
      <p class="notice bad">
        {props.nothingFits}. <a href={url("/toolboxes")}>See toolboxes</a>.
      </p>
    );
  }
  return (
    <form method="post" action={url("/servers")}>
      <Mistake>{props.mistake}</Mistake>
      {props.nothingFits && (
        <p class="notice">
          {props.nothingFits}.{" "}
          <a href={url("/toolboxes")}>See toolboxes</a>. You can deploy now on one that does not
          answer yet; the server starts once it does.
        </p>
      )}
      <input type="hidden" name="slug" value={entry.slug} />
      <input type="hidden" name="idempotencyKey" value={props.idempotencyKey} />
      <InputFields
        asked={props.asked}
        values={props.values}
        mistakes={props.mistakes}
        keptSecrets={[]}
      />
      <Field
        name="name"
        label="Name"
        value={props.values.name ?? entry.title}
        mistake={props.mistakes.name}
        required
        help="What you and your agents see."
      />
      <ToolboxChoice
        toolboxes={toolboxes}
        placement={placement}
        chosen={props.values.toolboxId}
        mistake={props.mistakes.toolboxId}
      />
      <button>Deploy</button>
    </form>
  );
}

/** Where it goes: the best place is chosen already, and of each other one that does not fit is said why. */
function ToolboxChoice({ toolboxes, placement, chosen, mistake }: {
  toolboxes: Toolbox[];
  placement: Placement;
  chosen?: string;
  mistake?: string;
}) {
  const fits = new Map(placement.fits.map((fit) => [fit.toolboxId, fit]));
  const preset = chosen || placement.toolboxId ||
    placement.fits.find((fit) => fit.isChoosable)?.toolboxId;
  if (toolboxes.length === 1) {
    return <input type="hidden" name="toolboxId" value={toolboxes[0].id} />;
  }
  const reasons = placement.fits.filter(({ why }) => why !== null);
  return (
    <div class="field">
      <label for="toolboxId">Toolbox</label>
      <select
        id="toolboxId"
        name="toolboxId"
        aria-invalid={mistake ? "true" : undefined}
        aria-describedby={`toolboxId-help${mistake ? " toolboxId-mistake" : ""}`}
      >
        {toolboxes.map((box) => (
          <option
            value={box.id}
            selected={box.id === preset}
            disabled={!fits.get(box.id)?.isChoosable}
          >
            {box.name}
            {fits.get(box.id)?.why ? " (does not fit)" : ` (${count(box.servers, "server")})`}
          </option>
        ))}
      </select>
      {mistake && <p class="mistake" id="toolboxId-mistake">{mistake}</p>}
      <div class="help" id="toolboxId-help">
        {placement.toolboxId && <p>Chosen: of those that fit the one with the fewest servers.</p>}
        {reasons.length > 0 && (
          <ul class="plain">
            {reasons.map(({ why }) => <li>{why}.</li>)}
          </ul>
        )}
      </div>
    </div>
  );
}

/** The fields for an entry's inputs. A kept secret's value is never in the page. */
export function InputFields(props: {
  asked: AskedInput[];
  values: Record<string, string>;
  mistakes: Record<string, string>;
  keptSecrets: string[];
}) {
  return (
    <>
      {props.asked.map(({ field, input, kind }) => {
        const isKept = input.isSecret &&
          props.keptSecrets.includes(kind === "environment" ? input.name : field);
        return (
          <Field
            name={field}
            label={input.label ?? input.name}
            help={input.description}
            mistake={props.mistakes[field]}
            required={input.isRequired && !isKept}
            type={input.isSecret
              ? "password"
              : input.format === "boolean"
              ? "checkbox"
              : input.format === "number"
              ? "number"
              : "text"}
            autocomplete={input.isSecret ? "new-password" : "off"}
            choices={input.choices}
            rows={input.isRepeated ? 3 : undefined}
            value={input.isSecret ? undefined : props.values[field] ?? input.default}
            placeholder={isKept ? "kept as it is; type to replace it" : input.placeholder}
          />
        );
      })}
    </>
  );
}

function needsSecret(entry: CatalogEntry): boolean {
  return [...entry.environment, ...entry.arguments].some((input) =>
    input.isSecret && input.isRequired
  );
}
