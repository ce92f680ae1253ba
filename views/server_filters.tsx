import type { ServerFilter, ServerNeed, ServerPage, ServerSort } from "../models/server_search.ts";
import { registryName } from "./package.tsx";
import { SearchForm, STATUS } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** Why a server needs a person, in the words of a choice and of a row. */
export const NEEDS: Record<ServerNeed, string> = {
  definitions: "Definitions to read",
  denials: "Refused hosts",
  crash_loop: "Crash loop",
};

/** The page's address, by what it asks for: what is as it is anyway is left out. */
export function serversPath(filter: ServerFilter, change: Partial<ServerFilter> = {}): string {
  const { text, status, toolbox, kind, needs, sort, page } = { ...filter, ...change };
  const asked = { q: text.trim(), needs, status, toolbox, kind, sort, page: String(page) };
  const usual: Record<string, string> = { sort: "name", page: "1" };
  const search = new URLSearchParams(
    Object.entries(asked).filter((each): each is [string, string] =>
      Boolean(each[1]) && usual[each[0]] !== each[1]
    ),
  ).toString();
  return `/servers${search && `?${search}`}`;
}

export function isFiltered({ text, status, toolbox, kind, needs }: ServerFilter): boolean {
  return Boolean(text.trim() || status || toolbox || kind || needs);
}

/** The search, with the choices that its results leave; they follow as one types. */
export function ServerSearch(
  { filter, facets }: { filter: ServerFilter; facets: ServerPage["facets"] },
) {
  return (
    <SearchForm at="/servers" text={filter.text} placeholder="Name, package or toolbox">
      <ServerChoices filter={filter} facets={facets} />
      {filter.sort !== "name" && <input type="hidden" name="sort" value={filter.sort} />}
    </SearchForm>
  );
}

/** What the search can be narrowed down to, each with how many there are. */
export function ServerChoices(
  { filter, facets }: { filter: ServerFilter; facets: ServerPage["facets"] },
) {
  return (
    <div id="server-choices" class="filters">
      <Choice
        name="status"
        label="Status"
        any="Any status"
        chosen={filter.status}
        of={facets.status.map((each) => ({ ...each, name: STATUS[each.value].name }))}
        chosenName={filter.status && STATUS[filter.status].name}
      />
      <Choice
        name="needs"
        label="Needs you"
        any="Whether or not"
        chosen={filter.needs}
        of={facets.needs.map((each) => ({ ...each, name: needName(each.value) }))}
        chosenName={filter.needs && needName(filter.needs)}
      />
      <Choice
        name="toolbox"
        label="Toolbox"
        any="All toolboxes"
        chosen={filter.toolbox}
        of={facets.toolbox.map((each) => ({ ...each, name: visibleText(each.name) }))}
        chosenName="The toolbox of the link"
      />
      <Choice
        name="kind"
        label="Runs from"
        any="Anything"
        chosen={filter.kind}
        of={facets.kind.map((each) => ({
          ...each,
          name: registryName({ registry: each.value }),
        }))}
        chosenName={filter.kind && registryName({ registry: filter.kind })}
      />
    </div>
  );
}

function needName(need: ServerNeed | "any"): string {
  return need === "any" ? "Needs you" : NEEDS[need];
}

function Choice(
  { name, label, any, chosen, of, chosenName }: {
    name: string;
    label: string;
    any: string;
    chosen: string | null;
    of: { value: string; name: string; count: number }[];
    /** Of one that nothing has. */
    chosenName: string | null;
  },
) {
  const id = `filter-${name}`;
  const isThere = chosen === null || of.some(({ value }) => value === chosen);
  const all = isThere ? of : [...of, { value: chosen, name: chosenName ?? chosen, count: 0 }];
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} name={name}>
        <option value="">{any}</option>
        {all.map((each) => (
          <option value={each.value} selected={each.value === chosen}>
            {each.name} ({each.count})
          </option>
        ))}
      </select>
    </div>
  );
}

/** A column's heading: the way to have the list in its order, and back. */
export function SortHeading(
  { by, name, filter }: { by: ServerSort; name: string; filter: ServerFilter },
) {
  const url = useUrl();
  const isBy = filter.sort === by, isBack = filter.sort === `-${by}`;
  return (
    <th
      scope="col"
      aria-sort={isBy ? "ascending" : isBack ? "descending" : undefined}
    >
      <a href={url(serversPath(filter, { sort: isBy ? `-${by}` : by, page: 1 }))}>
        {name}
        {(isBy || isBack) && <span aria-hidden="true">{isBy ? " ↓" : " ↑"}</span>}
      </a>
    </th>
  );
}

/** The pages of what was found, as links that can be shared. */
export function ServerPages(
  { filter, page, pages }: { filter: ServerFilter; page: number; pages: number },
) {
  const url = useUrl();
  if (pages === 1) return null;
  const to = (page: number) => url(serversPath(filter, { page }));
  return (
    <nav class="pages" aria-label="Pages of servers">
      {page > 1
        ? <a class="button quiet" rel="prev" href={to(page - 1)}>Previous</a>
        : <span></span>}
      <span>Page {page} of {pages}</span>
      {page < pages
        ? <a class="button quiet" rel="next" href={to(page + 1)}>Next</a>
        : <span></span>}
    </nav>
  );
}
