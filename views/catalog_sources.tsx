import type { BrokenEntry, CatalogSource } from "../models/catalog_sources.ts";
import { Form } from "./form.tsx";
import { Confirm, count, duration, Empty, Field, Mistake, Time } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface SourcesProps {
  sources: CatalogSource[];
  /** The asker is an owner or admin. */
  mayChange: boolean;
  /** Which form was sent, with what was typed, when it did not hold. */
  again?: {
    form: "add" | "upload" | "write";
    values: Record<string, string>;
    mistakes: Record<string, string>;
    mistake: string;
  };
}

/** Catalogs that many take, for a first click; their addresses can be given by hand as well. */
const KNOWN = [
  {
    name: "Official MCP registry",
    kind: "registry",
    url: "https://registry.modelcontextprotocol.io/",
    says: "What its publishers register themselves: many thousand servers, none of them checked.",
  },
  {
    name: "Docker MCP catalog",
    kind: "url",
    url: "https://github.com/docker/mcp-registry/archive/refs/heads/main.tar.gz",
    says: "Some hundred servers as images that Docker builds.",
  },
  {
    name: "ToolHive registry",
    kind: "url",
    url:
      "https://raw.githubusercontent.com/stacklok/toolhive-catalog/main/pkg/catalog/toolhive/data/registry-upstream.json",
    says: "About a hundred servers that Stacklok looks after, with the hosts that each needs.",
  },
];

const EVERY: [string, string][] = [
  ["", "On demand alone"],
  ["60", "Every hour"],
  ["360", "Every 6 hours"],
  ["1440", "Every day"],
  ["10080", "Every week"],
];

/** Where the catalog comes from: its sources, and the ways to add one. */
export function Sources(props: SourcesProps) {
  const { sources, mayChange } = props;
  const url = useUrl();
  return (
    <>
      <div hx-sse:connect={url("/marketplace/sources/live")} hx-swap="none"></div>
      <p class="crumbs">
        <a href={url("/marketplace")}>Marketplace</a> / Sources
      </p>
      <h1>Catalog sources</h1>
      <p class="lead">
        What the marketplace lists beside the built-in catalog. Entries are other people's words:
        deploying one is your decision, and its container is held to the same limits as any.
      </p>
      <SourceList sources={sources} mayChange={mayChange} />
      {mayChange ? <AddForms {...props} /> : (
        <p class="help">
          Owners and admins of the workspace add and sync sources: ask one of them.
        </p>
      )}
    </>
  );
}

/** The part that follows changes live. */
export function SourceList({ sources, mayChange }: Pick<SourcesProps, "sources" | "mayChange">) {
  return (
    <div id="sources">
      {sources.length === 0
        ? (
          <Empty title="No sources yet">
            <p>
              The marketplace shows the built-in catalog. {mayChange
                ? "Add a registry, a file or an archive below, or write an entry of your own."
                : "Owners and admins can add more."}
            </p>
          </Empty>
        )
        : sources.map((source) => <Source source={source} mayChange={mayChange} />)}
    </div>
  );
}

const KINDS: Record<CatalogSource["kind"], string> = {
  registry: "Registry",
  url: "File or archive",
  upload: "Uploaded",
  written: "Written here",
};

function Source({ source, mayChange }: { source: CatalogSource; mayChange: boolean }) {
  const url = useUrl();
  const path = `/marketplace/sources/${source.id}`;
  const isRemote = source.url !== null;
  return (
    <section
      class="card source"
      id={`source-${source.slug}`}
      aria-labelledby={`name-${source.slug}`}
    >
      <div class="head">
        <h2 id={`name-${source.slug}`}>
          <a href={url(`/marketplace?source=${source.slug}`)}>{source.name}</a>
        </h2>
        {mayChange && (
          <div class="acts">
            {source.kind !== "written" && (
              <Form action={url(`${path}/sync`)}>
                <button class="quiet" disabled={source.isSyncing}>
                  {isRemote ? "Sync now" : "Read again"}
                </button>
              </Form>
            )}
            <Confirm
              label="Remove"
              title={`Remove ${source.name}?`}
              action={url(`${path}/remove`)}
            >
              <p>
                Its {count(source.entries, "entry").replace("entrys", "entries")}{" "}
                {source.entries === 1
                  ? "leaves the marketplace, with its history."
                  : "leave the marketplace, with their history."} {source.servers > 0
                  ? `${count(source.servers, "server")} deployed from them ${
                    source.servers === 1 ? "runs on, and is" : "run on, and are"
                  } told of no update any more.`
                  : "No server was deployed from them."}
              </p>
            </Confirm>
          </div>
        )}
      </div>
      <p class="badges">
        <span class="badge">{KINDS[source.kind]}</span>
        <span class="badge">
          {source.entries.toLocaleString("en")} {source.entries === 1 ? "entry" : "entries"}
        </span>
        <span class="badge">{source.deployable.toLocaleString("en")} deployable here</span>
      </p>
      {source.url && (
        <p>
          <code>{source.url}</code>
        </p>
      )}
      <SyncState source={source} />
      {mayChange && isRemote && (
        <Form action={url(`${path}/schedule`)} class="inline schedule">
          <label for={`every-${source.slug}`}>Synced</label>
          <select id={`every-${source.slug}`} name="every">
            {EVERY.map(([value, name]) => (
              <option value={value} selected={value === String(source.syncEveryMinutes ?? "")}>
                {name}
              </option>
            ))}
          </select>
          <button class="quiet">Save</button>
        </Form>
      )}
      {source.broken > 0 && (
        <p>
          <a href={url(`${path}/broken`)}>
            {source.broken} could not be read
          </a>
          , with the reason of each.
        </p>
      )}
    </section>
  );
}

function SyncState({ source }: { source: CatalogSource }) {
  const { lastSync, progress, isSyncing } = source;
  const done = progress && progress.seen > 0
    ? `: ${progress.seen.toLocaleString("en")} entries so far${
      progress.pages > 0 ? `, on page ${progress.pages}` : ""
    }`
    : "";
  return (
    <>
      {isSyncing && (
        <p class="notice">
          Syncing{done}. You can leave this page.
        </p>
      )}
      {lastSync === null ? (!isSyncing && <p class="help">Not synced yet.</p>) : lastSync.state ===
          "failed"
        ? (
          <p class="notice bad">
            The last sync failed <Time at={lastSync.at} relative />:{" "}
            {lastSync.reason}. What was there stays.
            {!isSyncing && source.nextSyncAt && (
              <>
                {" "}
                It is tried again <Time at={source.nextSyncAt} relative />.
              </>
            )}
          </p>
        )
        : (
          <p class="help">
            Synced <Time at={lastSync.at} relative />, in {duration(lastSync.ms)}:{" "}
            {lastSync.seen ===
                null
              ? "nothing changed at its source."
              : `${lastSync.added} new, ${lastSync.changed} changed, ${lastSync.removed} gone.`}
            {!isSyncing && source.nextSyncAt && (
              <>
                {" "}
                Next <Time at={source.nextSyncAt} relative />.
              </>
            )}
          </p>
        )}
    </>
  );
}

function AddForms({ sources, again }: SourcesProps) {
  const url = useUrl();
  const values = (form: string) => again?.form === form ? again.values : {};
  const mistakes = (form: string) => again?.form === form ? again.mistakes : {};
  const mistake = (form: string) => again?.form === form ? again.mistake : undefined;
  const left = KNOWN.filter((known) => !sources.some((source) => source.url === known.url));
  return (
    <div class="columns even">
      <section class="card" aria-labelledby="add">
        <h2 id="add">Add by address</h2>
        {left.length > 0 && (
          <ul class="known">
            {left.map((known) => (
              <li>
                <Form action={url("/marketplace/sources")}>
                  <input type="hidden" name="name" value={known.name} />
                  <input type="hidden" name="kind" value={known.kind} />
                  <input type="hidden" name="url" value={known.url} />
                  <input type="hidden" name="syncEveryMinutes" value="1440" />
                  <button class="quiet">Add {known.name}</button>
                </Form>
                <span class="help">{known.says}</span>
              </li>
            ))}
          </ul>
        )}
        <Form action={url("/marketplace/sources")}>
          <Mistake>{mistake("add")}</Mistake>
          <Field
            name="name"
            label="Name"
            required
            value={values("add").name}
            mistake={mistakes("add").name}
            placeholder="Our registry"
          />
          <div class="field">
            <label for="kind">What is there</label>
            <select id="kind" name="kind">
              <option value="url" selected={values("add").kind !== "registry"}>
                A file, or a .tar.gz or .zip archive
              </option>
              <option value="registry" selected={values("add").kind === "registry"}>
                A registry with the official API
              </option>
            </select>
          </div>
          <Field
            name="url"
            label="Address"
            type="url"
            required
            value={values("add").url}
            mistake={mistakes("add").url}
            placeholder="https://git.example.com/team/servers/archive/main.tar.gz"
            help="https alone. Of a git repository the address of its archive: all server.json, registry.json and server.yaml files in it are read."
          />
          <div class="field">
            <label for="syncEveryMinutes">Synced</label>
            <select id="syncEveryMinutes" name="syncEveryMinutes">
              {EVERY.map(([value, name]) => (
                <option
                  value={value}
                  selected={value === (values("add").syncEveryMinutes ?? "1440")}
                >
                  {name}
                </option>
              ))}
            </select>
          </div>
          <button>Add</button>
        </Form>
      </section>
      <div>
        <section class="card" aria-labelledby="upload">
          <h2 id="upload">Upload a folder or files</h2>
          <Form
            action={url("/marketplace/sources/upload")}
            enctype="multipart/form-data"
          >
            <Mistake>{mistake("upload")}</Mistake>
            <Field
              name="name"
              label="Name"
              required
              value={values("upload").name}
              mistake={mistakes("upload").name}
              placeholder="Our servers"
            />
            <div class="field">
              <label for="files">Files</label>
              <input
                id="files"
                type="file"
                name="files"
                multiple
                accept=".json,.yaml,.yml,.zip,.gz,.tgz,.tar"
                aria-invalid={mistakes("upload").files ? "true" : undefined}
                aria-describedby={`files-help${mistakes("upload").files ? " files-mistake" : ""}`}
              />
              {mistakes("upload").files && (
                <p class="mistake" id="files-mistake">{mistakes("upload").files}</p>
              )}
              <p class="help" id="files-help">
                server.json files, a list of them, a registry.json, or a folder as .zip or .tar.gz;
                2 MiB at most.
              </p>
            </div>
            <button>Upload</button>
          </Form>
        </section>
        <section class="card" aria-labelledby="write">
          <h2 id="write">Write an entry</h2>
          <Form action={url("/marketplace/sources/write")}>
            <Mistake>{mistake("write")}</Mistake>
            <Field
              name="entry"
              label="server.json"
              rows={12}
              required
              value={values("write").entry}
              mistake={mistakes("write").entry}
              placeholder={EXAMPLE}
              help="In the official registry's format, schema 2025-12-11. One of the same name is replaced."
            />
            <button>Save</button>
          </Form>
        </section>
      </div>
    </div>
  );
}

const EXAMPLE = `{
  "name": "com.example/weather",
  "title": "Weather",
  "description": "Forecasts for our offices",
  "version": "1.0.0",
  "packages": [{
    "registryType": "npm",
    "identifier": "@example/weather-mcp",
    "version": "1.0.0",
    "transport": { "type": "stdio" },
    "environmentVariables": [
      { "name": "API_KEY", "isRequired": true, "isSecret": true }
    ]
  }]
}`;

/** What of a source could not be read, and why. */
export function Broken({ source, broken }: { source: CatalogSource; broken: BrokenEntry[] }) {
  const url = useUrl();
  return (
    <>
      <p class="crumbs">
        <a href={url("/marketplace")}>Marketplace</a> /{" "}
        <a href={url("/marketplace/sources")}>Sources</a> / {source.name}
      </p>
      <h1>What could not be read of {source.name}</h1>
      {broken.length === 0
        ? (
          <Empty title="Everything was read">
            <p>Nothing of this source is broken.</p>
          </Empty>
        )
        : (
          <>
            <p class="lead">
              {broken.length < source.broken
                ? `The newest ${broken.length} of ${source.broken}. `
                : ""}
              These are no entries as they stand, so the marketplace does not list them. Whoever
              keeps the source can mend them.
            </p>
            <ul class="broken">
              {broken.map(({ place, reason, raw }) => (
                <li class="card">
                  <h2>
                    <code>{visibleText(place)}</code>
                  </h2>
                  <p>{visibleText(reason)}.</p>
                  {raw !== "" && (
                    <details>
                      <summary>Its text</summary>
                      <pre tabindex={0}><code>{visibleText(raw)}</code></pre>
                    </details>
                  )}
                </li>
              ))}
            </ul>
          </>
        )}
    </>
  );
}
