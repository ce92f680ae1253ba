/**
 * Brings the catalog's sources up to date, as the app itself: whoever comes first takes a source for a
 * while (a lease), works in steps that each leave the database whole, and says how it went. A run that was
 * cut off, by a restart or an edge isolate's end, is gone on with where it stood.
 */
import { ArchiveError, isArchive, readArchive } from "./archive.ts";
import {
  type CatalogFile,
  importFiles,
  isCatalogFile,
  placeOf,
  readJson,
} from "./catalog_files.ts";
import type { Database } from "./db.ts";
import { type Import, IMPORT_VERSION, importEach, type Imported, objectOf } from "./imported.ts";
import { errorFields, type Log } from "./log.ts";
import { type Outside, OutsideError } from "./outside.ts";
import { importServerJson } from "./server_json.ts";

/** What a sync needs of the app. */
export interface SyncDeps {
  db: Database;
  outside: Outside;
  log: Log;
}

/** How a sync went, as its source's page shows it. */
export interface SyncOutcome {
  state: "ok" | "failed";
  /** A sentence without its stop: what went wrong, and what to do. */
  reason?: string;
  added: number;
  changed: number;
  removed: number;
  /** Seen in this sync; null where the source said that nothing changed. */
  seen: number | null;
  /** That could not be read. */
  broken: number;
  ms: number;
}

interface Source {
  id: string;
  workspaceId: string;
  slug: string;
  kind: "registry" | "url" | "upload" | "written";
  url: string | null;
  state: State;
  syncNumber: number;
}

/** Kept with a source between steps and syncs. */
interface State {
  /** Of a run that is under way. */
  run?: Partial<Run> & { startedAt: string };
  etag?: string;
  /** The newest time that the source's entries bear: the next sync asks for what came after. */
  since?: string;
  /** When all of it was asked for last. */
  wholeAt?: string;
  importVersion?: number;
  /** Syncs in a row that failed. */
  failures?: number;
}

interface Run {
  cursor: string | null;
  /** What this run asked for. */
  since: string | null;
  newest: string | null;
  pages: number;
  added: number;
  changed: number;
  removed: number;
  seen: number;
  broken: number;
  /** Of raw texts. */
  characters: number;
}

/** So long a source stays taken after each step. */
const LEASE_S = 120;
const DOWNLOAD_LIMIT_BYTES = 32 * 1024 * 1024;
const DOWNLOAD_TIMEOUT_MS = 60_000;
const PAGE_LIMIT_BYTES = 8 * 1024 * 1024;
const PAGE_TIMEOUT_MS = 30_000;
/** As many entries as the official registry gives at once. */
const PAGE_SIZE = 100;
/** The official registry had some hundred pages at the end of 2025; an API that never ends is stopped. */
const PAGES_LIMIT = 2000;
const ENTRIES_LIMIT = 50_000, CHARACTERS_LIMIT = 256 * 1024 * 1024;
/** After so long all is asked for again: what a registry lost without a word is lost here too then. */
const WHOLE_EVERY_MS = 7 * 24 * 3600_000;
/** Entries that are written in one transaction. */
const BATCH = 100;
/** A clock that is not ours: what came in this time before the last sync is asked for again. */
const OVERLAP_MS = 5 * 60_000;
/** After failures: the first wait, doubling to the longest. */
const RETRY_S = 300, RETRY_LONGEST_S = 6 * 3600;

/** Why a sync cannot go on, for a person. */
class SyncError extends Error {
  override name = "SyncError";
  constructor(
    message: string,
    readonly options: { retryAfterS?: number; startsAnew?: boolean } = {},
  ) {
    super(message);
  }
}

/** Thrown where another took the source over, or it is gone: there is nothing to write any more. */
class LeaseLost extends Error {
  override name = "LeaseLost";
}

/**
 * Works off what is due, one source after the other, for at most so long.
 *
 * @param options.sourceId only this one
 * @param options.budgetMs after it no further step is begun; a run goes on with the next call
 * @returns how many sources were worked on
 */
export async function syncDueSources(
  deps: SyncDeps,
  { sourceId = null, budgetMs = 60_000, signal }: {
    sourceId?: string | null;
    budgetMs?: number;
    signal?: AbortSignal;
  } = {},
): Promise<number> {
  const until = Date.now() + budgetMs;
  const isOver = () => signal?.aborted === true || Date.now() > until;
  let count = 0;
  while (!isOver()) {
    const lease = crypto.randomUUID();
    const [source] = await deps.db.asApp<Source[]>`
      select id, workspace_id as "workspaceId", slug, kind, url, state, sync_number as "syncNumber"
      from mooring.claim_catalog_source(${sourceId}, ${lease}, ${LEASE_S})`;
    if (!source) break;
    count++;
    await new SourceSync(deps, source, lease, isOver).work();
    if (sourceId) break;
  }
  return count;
}

/** One source under one lease. */
class SourceSync {
  readonly #deps: SyncDeps;
  readonly #source: Source;
  readonly #lease: string;
  readonly #isOver: () => boolean;
  readonly #startedAt: number;
  #state: State;
  #run: Run;

  constructor(deps: SyncDeps, source: Source, lease: string, isOver: () => boolean) {
    this.#deps = deps;
    this.#source = source;
    this.#lease = lease;
    this.#isOver = isOver;
    const isOutdated = source.state.importVersion !== IMPORT_VERSION;
    const { run, ...kept } = source.state;
    // Other importers make other entries of what did not change.
    this.#state = isOutdated ? { failures: kept.failures } : kept;
    this.#startedAt = Date.parse(run?.startedAt ?? "") || Date.now();
    this.#run = {
      cursor: null,
      since: Date.now() - (Date.parse(this.#state.wholeAt ?? "") || 0) < WHOLE_EVERY_MS
        ? this.#state.since ?? null
        : null,
      newest: null,
      pages: 0,
      added: 0,
      changed: 0,
      removed: 0,
      seen: 0,
      broken: 0,
      characters: 0,
      ...isOutdated ? {} : run,
    };
  }

  async work(): Promise<void> {
    try {
      if (this.#source.kind === "registry") await this.#readRegistry();
      else if (this.#source.kind === "url") await this.#readUrl();
      else await this.#readDocuments();
    } catch (error) {
      if (error instanceof LeaseLost) return;
      await this.#fail(error);
    }
  }

  // ── The official registry's API (v0.1; v0 has the same) ─────────────────────────────────────────

  async #readRegistry(): Promise<void> {
    const seenCursors = new Set<string>();
    while (true) {
      if (this.#run.pages >= PAGES_LIMIT) {
        throw new SyncError(`It has more than ${PAGES_LIMIT} pages, which no registry has`, {
          startsAnew: true,
        });
      }
      const page = await this.#readPage();
      const { entries, broken } = importEach(
        page.servers.map((value, index) => ({
          place: placeOf(`page ${this.#run.pages + 1}`, index, value),
          raw: JSON.stringify(value, null, 1) ?? "null",
          value,
        })),
        importServerJson,
      );
      const next = page.nextCursor;
      if (next !== null && (next === this.#run.cursor || seenCursors.has(next))) {
        throw new SyncError("Its pages go round in a circle: a cursor came twice", {
          startsAnew: true,
        });
      }
      if (next !== null) seenCursors.add(next);
      this.#run.newest = newest([this.#run.newest, ...page.updated]);
      await this.#write({ entries, broken }, { cursor: next, pages: this.#run.pages + 1 });
      if (next === null) break;
      // The rest by whoever comes next.
      if (this.#isOver()) return await this.#pause();
    }
    const { since, newest: last } = this.#run;
    await this.#end({
      ...this.#state,
      wholeAt: since === null ? new Date(this.#startedAt).toISOString() : this.#state.wholeAt,
      since: last ? new Date(Date.parse(last) - OVERLAP_MS).toISOString() : since ?? undefined,
      // What was asked since a time says nothing of the rest: taken-back entries come as such.
    }, since === null);
  }

  async #readPage() {
    const url = registryUrl(this.#source.url!);
    url.searchParams.set("limit", String(PAGE_SIZE));
    if (this.#run.cursor) url.searchParams.set("cursor", this.#run.cursor);
    if (this.#run.since) url.searchParams.set("updated_since", this.#run.since);
    const response = await this.#deps.outside(url, {
      headers: { accept: "application/json", "user-agent": USER_AGENT },
      limitBytes: PAGE_LIMIT_BYTES,
      timeoutMs: PAGE_TIMEOUT_MS,
    });
    if (!response.ok) throw refusal(response, this.#run.cursor !== null);
    const value = readJson(await response.text());
    if (value instanceof Error) {
      throw new SyncError(`${url.host} answers with what is no page: ${value.message}`);
    }
    const { servers, metadata } = objectOf(value);
    if (servers !== null && !Array.isArray(servers)) {
      throw new SyncError(
        `${url.host} answers with no list of servers: is ${this.#source.url} a registry's address?`,
      );
    }
    const meta = objectOf(metadata), cursor = meta.nextCursor ?? meta.next_cursor;
    const list = (servers ?? []).slice(0, 1000);
    return {
      servers: list,
      nextCursor: typeof cursor === "string" && cursor !== "" && cursor.length <= 2000
        ? cursor
        : null,
      updated: list.map((each) => {
        const official = objectOf(
          objectOf(objectOf(each)._meta)["io.modelcontextprotocol.registry/official"],
        );
        return String(official.updatedAt ?? official.updated_at ?? official.publishedAt ?? "");
      }),
    };
  }

  // ── A file or an archive ────────────────────────────────────────────────────────────────────────

  async #readUrl(): Promise<void> {
    const { etag } = this.#state;
    const url = new URL(this.#source.url!);
    const response = await this.#deps.outside(url, {
      headers: {
        accept: "*/*",
        "user-agent": USER_AGENT,
        ...etag ? { "if-none-match": etag } : {},
      },
      limitBytes: DOWNLOAD_LIMIT_BYTES,
      timeoutMs: DOWNLOAD_TIMEOUT_MS,
    });
    if (response.status === 304) return await this.#end(this.#state, false, null);
    if (!response.ok) throw refusal(response, false);
    const bytes = new Uint8Array(await response.arrayBuffer());
    const name = url.pathname.split("/").at(-1) || "file.json";
    const isPacked = isArchive(bytes);
    const files = isPacked ? await readArchive(bytes, isCatalogFile) : [{
      path: /\.(json|ya?ml)$/i.test(name) ? name : `${name}.json`,
      text: new TextDecoder().decode(bytes),
    }];
    await this.#readFiles(files, !isPacked);
    const given = response.headers.get("etag");
    await this.#end(
      { ...this.#state, etag: given && given.length < 300 ? given : undefined },
      true,
    );
  }

  async #readDocuments(): Promise<void> {
    const documents = await this.#deps.db.asApp<{ path: string; body: string }[]>`
      select path, body from mooring.catalog_documents_of(${this.#source.id}, ${this.#lease})`;
    const files = documents.map(({ path, body }) => ({ path, text: body }));
    await this.#readFiles(files, this.#source.kind === "written");
    await this.#end(this.#state, true);
  }

  async #readFiles(files: CatalogFile[], isStrict: boolean): Promise<void> {
    const found = importFiles(files, isStrict);
    if (found.entries.length + found.broken.length === 0 && this.#source.kind !== "written") {
      throw new SyncError(
        "There is no entry in it: no server.json, no registry.json and no server.yaml",
      );
    }
    // From its start each time, since all is at hand and what was written is written the same again.
    Object.assign(this.#run, {
      added: 0,
      changed: 0,
      removed: 0,
      seen: 0,
      broken: 0,
      characters: 0,
    });
    await this.#write(found);
  }

  // ── What every kind does ────────────────────────────────────────────────────────────────────────

  /** Writes entries in batches; with the last one where the run stands then. */
  async #write({ entries, broken }: Import, after: Partial<Run> = {}): Promise<void> {
    for (let at = 0; at === 0 || at < entries.length; at += BATCH) {
      const batch = entries.slice(at, at + BATCH), isLast = at + BATCH >= entries.length;
      const run: Run = { ...this.#run, ...isLast ? after : {} };
      run.seen += batch.length;
      for (const { raw } of batch) run.characters += raw.length;
      if (run.seen > ENTRIES_LIMIT || run.characters > CHARACTERS_LIMIT) {
        throw new SyncError(
          `It has more than ${ENTRIES_LIMIT} entries, or ${
            CHARACTERS_LIMIT / 1024 / 1024
          } MiB of them, which is ` +
            "as much as Mooring takes of one source",
          { startsAnew: true },
        );
      }
      if (isLast) run.broken += broken.length;
      const [{ counts }] = await this.#deps.db.asApp<{ counts: Counts | null }[]>`
        select mooring.put_catalog_entries(${this.#source.id}, ${this.#lease},
          ${JSON.stringify(batch.map((each) => this.#row(each)))}::text::jsonb,
          ${JSON.stringify(isLast ? broken : [])}::text::jsonb,
          ${JSON.stringify(this.#stateWith(run))}::text::jsonb, ${LEASE_S}) as counts`;
      if (!counts) throw new LeaseLost();
      for (const name of ["added", "changed", "removed"] as const) run[name] += counts[name];
      this.#run = run;
    }
  }

  #row(entry: Imported) {
    return { ...entry, slug: `${this.#source.slug}--${entry.entry.slug}` };
  }

  #stateWith(run: Run): State {
    const startedAt = new Date(this.#startedAt).toISOString();
    return { ...this.#state, importVersion: IMPORT_VERSION, run: { ...run, startedAt } };
  }

  /** Lets the source go in the middle of a run: it stays due. */
  async #pause(): Promise<void> {
    await this.#finish(null, this.#stateWith(this.#run), false, 0);
  }

  async #end(state: State, sawAll: boolean, seen: number | null = this.#run.seen): Promise<void> {
    const { failures: _, ...kept } = state;
    await this.#finish(
      { ...this.#outcome(), state: "ok", seen },
      { ...kept, importVersion: IMPORT_VERSION },
      sawAll,
      null,
    );
  }

  async #fail(error: unknown): Promise<void> {
    const isKnown = error instanceof SyncError || error instanceof OutsideError ||
      error instanceof ArchiveError;
    if (!isKnown) {
      this.#deps.log.error("A catalog source could not be synced", {
        source: this.#source.id,
        ...errorFields(error),
      });
    }
    const { retryAfterS, startsAnew } = error instanceof SyncError ? error.options : {};
    const failures = (this.#state.failures ?? 0) + 1;
    const state = startsAnew || this.#run.pages === 0
      ? { ...this.#state, importVersion: IMPORT_VERSION, failures }
      : { ...this.#stateWith(this.#run), failures };
    const waitS = retryAfterS ?? Math.min(RETRY_S * 2 ** (failures - 1), RETRY_LONGEST_S);
    await this.#finish(
      {
        ...this.#outcome(),
        state: "failed",
        reason: isKnown ? error.message : "Mooring failed; its log says more",
      },
      state,
      false,
      waitS,
    ).catch((ending) => {
      // The lease ends by itself.
      if (!(ending instanceof LeaseLost)) {
        this.#deps.log.error("A sync's end could not be written", errorFields(ending));
      }
    });
  }

  #outcome() {
    const { added, changed, removed, seen, broken } = this.#run;
    return { added, changed, removed, seen, broken, ms: Date.now() - this.#startedAt };
  }

  async #finish(
    outcome: SyncOutcome | null,
    state: State,
    sawAll: boolean,
    retryS: number | null,
  ): Promise<void> {
    const [{ ended }] = await this.#deps.db.asApp<{ ended: { removed: number } | null }[]>`
      select mooring.end_catalog_sync(${this.#source.id}, ${this.#lease},
        ${outcome && JSON.stringify(outcome)}::text::jsonb, ${
      JSON.stringify(state)
    }::text::jsonb, ${sawAll}, ${retryS}) as ended`;
    if (!ended) throw new LeaseLost();
    if (outcome && outcome.added + outcome.changed + outcome.removed + ended.removed > 0) {
      await this.#deps.db.asApp`select mooring.refresh_catalog_words(${this.#source.workspaceId})`;
    }
  }
}

type Counts = Pick<Run, "added" | "changed" | "removed">;

const USER_AGENT = "Mooring (a catalog's sync)";

/** A registry's list of servers: of its base URL, or of the address of the list itself. */
function registryUrl(base: string): URL {
  const url = new URL(base);
  if (!/\/servers\/?$/.test(url.pathname)) {
    url.pathname = `${url.pathname.replace(/\/+$/, "").replace(/\/v0(\.1)?$/, "")}/v0.1/servers`;
  }
  return url;
}

function refusal(response: Response, hasCursor: boolean): SyncError {
  const { status } = response;
  if (status === 429 || status === 503) {
    const seconds = Number(response.headers.get("retry-after"));
    return new SyncError(`It is asked too often, or is busy (${status}); it is asked again later`, {
      retryAfterS: seconds > 0 ? Math.min(Math.max(seconds, 30), RETRY_LONGEST_S) : undefined,
    });
  }
  if (status === 401 || status === 403) {
    return new SyncError(`It wants somebody to sign in (${status}), which Mooring does not`);
  }
  if (status === 404 || status === 410) {
    return new SyncError(`There is nothing at its address (${status}): is it written right?`);
  }
  return new SyncError(`It answers with an error (${status})`, {
    // A cursor that it does not take any more.
    startsAnew: hasCursor && status >= 400 && status < 500,
  });
}

function newest(times: (string | null)[]): string | null {
  // No clock is trusted that is ahead of ours: nothing would ever be newer.
  const known = times.map((time) => Date.parse(time ?? "")).filter((time) => time <= Date.now());
  return known.length > 0 ? new Date(Math.max(...known)).toISOString() : null;
}
