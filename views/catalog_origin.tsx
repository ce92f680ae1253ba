import type { CatalogRow } from "../models/catalog_entries.ts";
import type { EntryVersion } from "../models/catalog_sources.ts";
import { Confirm, Time } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** What a person should know before deploying an entry. */
export function Notes({ of: { notes } }: { of: CatalogRow }) {
  if (notes.length === 0) return null;
  return <ul class="notice">{notes.map((note) => <li>{note}.</li>)}</ul>;
}

/** Why an entry is listed all the same, and what a person can do. */
export function NotDeployable({ row }: { row: CatalogRow }) {
  const url = useUrl();
  return (
    <>
      <p class="notice bad">Listed, not deployable here: {row.obstacle}.</p>
      <p>
        You can <a href={url("/marketplace/sources#write")}>write an entry</a>{" "}
        of your own for it, from its text below, or{" "}
        <a href={url("/servers/remote")}>add it by its URL</a> where it runs elsewhere.
      </p>
    </>
  );
}

/** Where an entry comes from: its source, its tools as the source names them, its versions and its text. */
export function EntryOrigin({ row, versions }: { row: CatalogRow; versions: EntryVersion[] }) {
  const url = useUrl();
  const path = `/marketplace/${row.entry.slug}`;
  return (
    <>
      {row.tools.length > 0 && (
        <>
          <h2>Tools that its source names</h2>
          <p class="help">What it lists once it runs is what you approve, and may be other.</p>
          <ul class="plain tools-named">
            {row.tools.slice(0, 60).map(({ name, description }) => (
              <li>
                <code>{name}</code>
                {description && <>: {description}</>}
              </li>
            ))}
            {row.tools.length > 60 && <li>and {row.tools.length - 60} more</li>}
          </ul>
        </>
      )}
      <h2>Where it comes from</h2>
      <dl class="facts">
        <dt>Source</dt>
        <dd>
          {row.sourceId === null
            ? "Built in: it came with Mooring"
            : <a href={url(`/marketplace/sources#source-${row.source}`)}>{row.sourceName}</a>}
        </dd>
        {row.version && (
          <>
            <dt>Version</dt>
            <dd>
              <code>{visibleText(row.version)}</code>
            </dd>
          </>
        )}
        {row.publishedAt && (
          <>
            <dt>Published</dt>
            <dd>
              <Time at={row.publishedAt} />
            </dd>
          </>
        )}
        <dt>Changed here</dt>
        <dd>
          <Time at={row.updatedAt} />
        </dd>
      </dl>
      {versions.length > 0 && (
        <details>
          <summary>
            {versions.length === 1
              ? "Its one version, as its source has it"
              : `Its ${versions.length} versions, as their source has them`}
          </summary>
          <ul class="versions">
            {versions.map((version) => (
              <li>
                <code>{visibleText(version.version)}</code>{" "}
                <Time at={version.publishedAt ?? version.firstSeenAt} />{" "}
                <a href={url(`${path}/raw?version=${version.hash}`)}>its text</a>
                {version.obstacle !== null && <span class="help">not deployable</span>}
              </li>
            ))}
          </ul>
        </details>
      )}
      {row.source === "written-here" && (
        <Confirm
          label="Remove this entry"
          title={`Remove ${row.entry.title} from the catalog?`}
          action={url(`${path}/remove`)}
        >
          <p>Its text goes with it. Servers that were deployed from it run on.</p>
        </Confirm>
      )}
    </>
  );
}

/** The text of an entry as its source has it. */
export function RawEntry(
  { row, raw, hash }: { row: CatalogRow; raw: string; hash: string | null },
) {
  const url = useUrl();
  const path = `/marketplace/${row.entry.slug}`;
  return (
    <>
      <p class="crumbs">
        <a href={url("/marketplace")}>Marketplace</a> / <a href={url(path)}>{row.entry.title}</a>
        {" "}
        / Text
      </p>
      <h1>{row.entry.title} as its source has it</h1>
      <p>
        <a
          class="button quiet"
          download
          href={url(`${path}/raw?download${hash ? `&version=${hash}` : ""}`)}
        >
          Download
        </a>
      </p>
      <pre class="raw" tabindex={0}><code>{raw}</code></pre>
    </>
  );
}
