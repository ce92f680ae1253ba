import { type Context, Hono } from "hono";
import { askedInputs, buildCodeOf, secretsOf } from "../models/catalog_entries.ts";
import { Conflict, Invalid } from "../models/errors.ts";
import { digestsBy } from "../models/image_digests.ts";
import { listToolboxes } from "../models/toolboxes.ts";
import {
  approveWish,
  getWish,
  listWishes,
  rejectWish,
  wishesNow,
  type WishNow,
} from "../models/wishes.ts";
import { OpenRequestCount } from "../views/layout.tsx";
import { EndedWishes, OpenWishes, Wishes, WishPage } from "../views/wishes.tsx";
import { visibleText } from "../views/visible_text.ts";
import type { Deps, Env } from "./deps.ts";
import { live } from "./live.ts";
import { placing } from "./placing.ts";
import { formOf, goTo, page } from "./render.tsx";

/** Open ones that a page shows at once. */
const SHOWN = 20;

/** What agents ask for: read, approve, reject. */
export function wishRoutes(deps: Deps) {
  const { db, secretsKey } = deps;
  const digestOf = digestsBy(deps.outside);

  return new Hono<Env>()
    .get("/requests", async (c) => page(c, "Requests", <Wishes {...await load(c)} />))
    .get("/requests/live", (c) =>
      live(
        c,
        deps,
        ({ table, workspace }) =>
          (table === "wishes" || table === "tools") && workspace === c.get("workspace").id,
        async () => {
          const { total, ...lists } = await load(c);
          return [
            { target: "#open-requests", content: <OpenWishes {...lists} /> },
            { target: "#ended-requests", content: <EndedWishes {...lists} /> },
            { target: "#open-request-count", content: <OpenRequestCount of={total} /> },
          ];
        },
      ))
    .get("/requests/:id", (c) => wishPage(c))
    .post("/requests/:id/approve", async (c) => {
      const form = await formOf(c), id = c.req.param("id");
      try {
        const { asked, serverId } = await approveWish(
          { db, secretsKey, digestOf },
          c.get("user"),
          id,
          {
            version: form.version ?? "",
            toolboxId: form.toolboxId || undefined,
            label: form.label || undefined,
            form,
          },
        );
        const place = asked.operation === "deploy_server" && serverId
          ? `/servers/${serverId}`
          : "/requests";
        return goTo(c, place, "request-approved");
      } catch (error) {
        if (!(error instanceof Invalid || error instanceof Conflict)) throw error;
        return await wishPage(c, { form, error });
      }
    })
    .post("/requests/:id/reject", async (c) => {
      const form = await formOf(c);
      try {
        await rejectWish(db, c.get("user"), c.req.param("id"), form.answer ?? "");
        return goTo(c, "/requests", "request-rejected");
      } catch (error) {
        if (!(error instanceof Invalid || error instanceof Conflict)) throw error;
        return await wishPage(c, { form, error });
      }
    });

  async function load(c: Context<Env>) {
    const user = c.get("user"), workspaceId = c.get("workspace").id;
    const all = await listWishes(db, user, workspaceId, { isOpen: true, limit: 1000 });
    const open = await wishesNow(db, user, all.slice(0, SHOWN));
    return {
      open: open.map((wish) => ({ wish, first: beforeApproving(wish) })),
      total: all.length,
      hasMore: all.length > SHOWN,
      ended: await listWishes(db, user, workspaceId, { isOpen: false }),
    };
  }

  /** @param again what was sent, and why it could not be done */
  async function wishPage(
    c: Context<Env>,
    again?: { form: Record<string, string>; error: Invalid | Conflict },
  ) {
    const user = c.get("user");
    const wish = await getWish(db, user, c.req.param("id")!);
    const entry = wish.row?.entry;
    const toolboxes = entry ? await listToolboxes(db, user, wish.workspaceId) : [];
    const { form = {}, error } = again ?? {};
    const chosen = { label: form.label, tier: form["option.tier"] };
    const content = (
      <WishPage
        wish={wish}
        mayDecide={c.get("workspace").role !== "viewer"}
        asked={entry ? askedInputs(entry) : []}
        secrets={entry ? secretsOf(entry) : []}
        buildCode={entry ? buildCodeOf(entry) : null}
        {...entry
          ? placing(toolboxes, entry, chosen)
          : { toolboxes, placement: { toolboxId: null, fits: [] }, nothingFits: null }}
        values={form}
        mistakes={error instanceof Invalid ? error.fields : {}}
        mistake={error?.message}
      />
    );
    const title = `Request: ${visibleText(wish.wants)}`;
    return page(c, title, content, !error ? 200 : error instanceof Invalid ? 422 : 409);
  }
}

/** What a person has to see, give or agree to before they approve it, as sentences. */
function beforeApproving({ asked, row, server, isChanged }: WishNow): string[] {
  if (asked.operation === "connect_server") return server ? [] : ["The server is gone."];
  if (!row) return ["The marketplace does not have the entry any more."];
  const { entry, obstacle } = row;
  return [
    obstacle !== null && "It cannot be deployed here.",
    isChanged && "Its entry was changed since.",
    secretsOf(entry).some(({ input }) => input.isRequired) && "It needs secrets, which you give.",
    buildCodeOf(entry) !== null && "Code runs while its image is built, to which you agree.",
  ].filter((sentence) => sentence !== false);
}
