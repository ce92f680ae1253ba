import type { Context } from "hono";
import { askedInputs, buildCodeOf, findCatalogEntry } from "../models/catalog_entries.ts";
import { listVersions } from "../models/catalog_sources.ts";
import type { Invalid } from "../models/errors.ts";
import { readEntryTrust } from "../models/trust.ts";
import { listDeployed } from "../models/updates.ts";
import { listToolboxes } from "../models/toolboxes.ts";
import { Entry } from "../views/marketplace.tsx";
import type { Deps, Env } from "./deps.ts";
import { placing } from "./placing.ts";
import { page } from "./render.tsx";

/**
 * An entry's page with the form that deploys it.
 *
 * @param again what was sent, and what of it does not hold
 * @throws {import("../models/errors.ts").NotFound}
 */
export async function entryPage(
  c: Context<Env>,
  { db }: Pick<Deps, "db">,
  slug: string,
  again?: { form: Record<string, string>; error: Invalid },
) {
  const user = c.get("user"), workspaceId = c.get("workspace").id;
  const row = await findCatalogEntry(db, user, slug, workspaceId);
  const { entry } = row;
  const toolboxes = await listToolboxes(db, user, workspaceId);
  const form = again?.form;
  const content = (
    <Entry
      row={row}
      entry={entry}
      versions={row.sourceId === null ? [] : await listVersions(db, user, row.id)}
      trust={await readEntryTrust(db, user, workspaceId, row)}
      deployed={await listDeployed(db, user, workspaceId, row.id)}
      asked={askedInputs(entry)}
      buildCode={buildCodeOf(entry)}
      {...placing(toolboxes, entry, form && { label: form.label, tier: form["option.tier"] })}
      idempotencyKey={form?.idempotencyKey ?? crypto.randomUUID()}
      values={form ?? {}}
      mistakes={again?.error.fields ?? {}}
      mistake={again?.error.message}
    />
  );
  return page(c, entry.title, content, again ? 422 : 200);
}
