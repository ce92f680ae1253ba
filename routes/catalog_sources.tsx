import { type Context, Hono } from "hono";
import {
  addSource,
  listBroken,
  listSources,
  removeSource,
  requestSync,
  scheduleSync,
  type UploadedFile,
  uploadSource,
  writeEntry,
} from "../models/catalog_sources.ts";
import { syncDueSources } from "../models/catalog_sync.ts";
import { Invalid, NotFound } from "../models/errors.ts";
import { Broken, SourceList, Sources, type SourcesProps } from "../views/catalog_sources.tsx";
import type { Deps, Env } from "./deps.ts";
import { live } from "./live.ts";
import { formOf, goTo, page } from "./render.tsx";

/** A call of the schedule's works at most so long: an edge isolate's request lives little longer. */
const SCHEDULE_BUDGET_MS = 45_000;

/**
 * Where a schedule from outside, such as pg_cron, has due sources synced; a self-hosted start does it by
 * itself. Anybody may call it: it does what is due, and what is due is done once.
 */
export function catalogScheduleRoutes(deps: Deps) {
  return new Hono<Env>().post("/schedule/catalog", async (c) => {
    const synced = await syncDueSources(deps, {
      budgetMs: SCHEDULE_BUDGET_MS,
      signal: c.req.raw.signal,
    });
    return c.json({ synced }, 200, { "cache-control": "no-store" });
  });
}

/** Where the catalog comes from: add, sync, see what is broken, remove. */
export function catalogSourceRoutes(deps: Deps) {
  const { db } = deps;
  return new Hono<Env>()
    .get("/marketplace/sources", (c) => sourcesPage(c))
    .post("/marketplace/sources", async (c) => {
      const form = await formOf(c);
      try {
        await addSource(db, c.get("user"), c.get("workspace").id, form);
        return goTo(c, "/marketplace/sources", "source-asked");
      } catch (error) {
        return await formAgain(c, "add", form, error);
      }
    })
    .post("/marketplace/sources/upload", async (c) => {
      const { name, files } = await uploadOf(c);
      try {
        const id = await uploadSource(db, c.get("user"), c.get("workspace").id, name, files);
        // At once, since nothing has to be fetched: what came of it is on the page that follows.
        await syncDueSources(deps, { sourceId: id });
        return goTo(c, "/marketplace/sources", "source-read");
      } catch (error) {
        return await formAgain(c, "upload", { name }, error);
      }
    })
    .post("/marketplace/sources/write", async (c) => {
      const form = await formOf(c);
      try {
        const { entry = "" } = form;
        const { sourceId } = await writeEntry(db, c.get("user"), c.get("workspace").id, entry);
        await syncDueSources(deps, { sourceId });
        return goTo(c, "/marketplace/sources", "source-read");
      } catch (error) {
        return await formAgain(c, "write", form, error);
      }
    })
    .get("/marketplace/sources/live", (c) => {
      const user = c.get("user"), workspaceId = c.get("workspace").id, mayChange = isAdmin(c);
      const concerns = (change: { workspace: string | null; table: string }) =>
        change.table === "catalog_sources" && change.workspace === workspaceId;
      return live(c, deps, concerns, async () => [{
        target: "#sources",
        content: (
          <SourceList
            sources={await listSources(db, user, workspaceId)}
            mayChange={mayChange}
          />
        ),
      }]);
    })
    .get("/marketplace/sources/:id/broken", async (c) => {
      const user = c.get("user"), id = c.req.param("id");
      const sources = await listSources(db, user, c.get("workspace").id);
      const source = sources.find((each) => each.id === id);
      if (!source) throw new NotFound("There is no such catalog source");
      return page(
        c,
        `Broken entries of ${source.name}`,
        <Broken source={source} broken={await listBroken(db, user, id)} />,
      );
    })
    .post("/marketplace/sources/:id/sync", async (c) => {
      await requestSync(db, c.get("user"), c.req.param("id"));
      return goTo(c, "/marketplace/sources", "source-asked");
    })
    .post("/marketplace/sources/:id/schedule", async (c) => {
      await scheduleSync(db, c.get("user"), c.req.param("id"), (await formOf(c)).every ?? "");
      return goTo(c, "/marketplace/sources", "source-saved");
    })
    .post("/marketplace/sources/:id/remove", async (c) => {
      await removeSource(db, c.get("user"), c.req.param("id"));
      return goTo(c, "/marketplace/sources", "source-removed");
    });

  async function sourcesPage(c: Context<Env>, again?: SourcesProps["again"]) {
    const user = c.get("user"), workspaceId = c.get("workspace").id;
    return page(
      c,
      "Catalog sources",
      <Sources
        sources={await listSources(db, user, workspaceId)}
        mayChange={isAdmin(c)}
        again={again}
      />,
      again ? 422 : 200,
    );
  }

  async function formAgain(
    c: Context<Env>,
    form: "add" | "upload" | "write",
    values: Record<string, string>,
    error: unknown,
  ) {
    if (!(error instanceof Invalid)) throw error;
    return await sourcesPage(c, {
      form,
      values,
      mistakes: error.fields,
      mistake: error.message,
    });
  }
}

function isAdmin(c: Context<Env>): boolean {
  return ["owner", "admin"].includes(c.get("workspace").role);
}

async function uploadOf(c: Context<Env>): Promise<{ name: string; files: UploadedFile[] }> {
  const body = await c.req.parseBody({ all: true });
  const given = [body.files].flat().filter((file) => file instanceof File);
  const files = await Promise.all(
    given.slice(0, 500).map(async (file) => ({
      name: file.name,
      bytes: new Uint8Array(await file.arrayBuffer()),
    })),
  );
  return { name: typeof body.name === "string" ? body.name : "", files };
}
