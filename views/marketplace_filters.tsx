import type { CatalogFilters, CatalogResults, CatalogSort } from "../models/catalog_entries.ts";
import { registryName } from "./package.tsx";
import { useUrl } from "./url.ts";

/** What is asked of the marketplace, as its address has it. */
export interface Asked extends CatalogFilters {
  sort: CatalogSort;
  page: number;
}

export interface FilterProps {
  asked: Asked;
  facets: CatalogResults["facets"];
  /** By slug. */
  sourceNames: Record<string, string>;
}

type Facet = keyof CatalogResults["facets"];

const LABELS: Record<Facet, { label: string; any: string }> = {
  category: { label: "Category", any: "All categories" },
  runtime: { label: "Runs from", any: "Anything" },
  source: { label: "Source", any: "All sources" },
  secrets: { label: "Needs a key", any: "Either" },
  network: { label: "Network", any: "Either" },
  deployable: { label: "Deployable here", any: "Either" },
  verified: { label: "Verified", any: "Either" },
};

const YES_NO: Partial<Record<Facet, Record<string, string>>> = {
  secrets: { yes: "Needs a key", no: "Needs none" },
  network: { yes: "Uses the network", no: "No network" },
  deployable: { yes: "Can be deployed", no: "Only listed" },
  verified: { yes: "Verified", no: "Not verified" },
};

/** The choices beside the search field; their counts follow what is searched. */
export function Filters({ asked, facets, sourceNames }: FilterProps) {
  const more = (["runtime", "source", "secrets", "network", "deployable", "verified"] as const)
    .filter((name) => facets[name].length > 1 || asked[name] !== "");
  const chosen = more.filter((name) => asked[name] !== "").length;
  return (
    <div id="filters" class="filters">
      <FacetField name="category" {...{ asked, facets, sourceNames }} />
      <div class="field">
        <label for="filter-sort">Order</label>
        <select id="filter-sort" name="sort">
          {SORTS.map(([value, name]) => (
            <option value={value} selected={value === asked.sort}>{name}</option>
          ))}
        </select>
      </div>
      {more.length > 0 && (
        <details class="more" open={chosen > 0}>
          <summary>More filters {chosen > 0 && <span class="badge">{chosen}</span>}</summary>
          <div>
            {more.map((name) => <FacetField name={name} {...{ asked, facets, sourceNames }} />)}
          </div>
        </details>
      )}
    </div>
  );
}

const SORTS: [CatalogSort, string][] = [
  ["best", "Best match"],
  ["title", "By title"],
  ["updated", "Recently updated"],
];

function FacetField({ name, asked, facets, sourceNames }: FilterProps & { name: Facet }) {
  const { label, any } = LABELS[name];
  const chosen = asked[name];
  const values = facets[name].some(({ value }) => value === chosen) || chosen === ""
    ? facets[name]
    : [...facets[name], { value: chosen, count: 0 }];
  return (
    <div class="field">
      <label for={`filter-${name}`}>{label}</label>
      <select id={`filter-${name}`} name={name}>
        <option value="">{any}</option>
        {values.map(({ value, count }) => (
          <option value={value} selected={value === chosen}>
            {nameOf(name, value, sourceNames)} ({count})
          </option>
        ))}
      </select>
    </div>
  );
}

/** What is chosen, each with the way to take it back. */
export function Chosen({ asked, sourceNames }: Omit<FilterProps, "facets">) {
  const url = useUrl();
  const chosen = (Object.keys(LABELS) as Facet[]).filter((name) => asked[name] !== "");
  if (chosen.length === 0) return null;
  return (
    <ul class="chosen" aria-label="Chosen filters">
      {chosen.map((name) => (
        <li>
          <a
            class="badge"
            href={url(`/marketplace${addressOf({ ...asked, [name]: "", page: 1 })}`)}
            aria-label={`Take back: ${LABELS[name].label} ${
              nameOf(name, asked[name], sourceNames)
            }`}
          >
            {nameOf(name, asked[name], sourceNames)} <span aria-hidden="true">×</span>
          </a>
        </li>
      ))}
      <li>
        <a href={url(`/marketplace${addressOf({ ...NOTHING_ASKED, query: asked.query })}`)}>
          Clear filters
        </a>
      </li>
    </ul>
  );
}

/** The pages of what was found, as links that can be shared. */
export function Pages({ asked, total, pageSize }: {
  asked: Asked;
  total: number;
  pageSize: number;
}) {
  const url = useUrl();
  const last = Math.max(1, Math.ceil(total / pageSize));
  if (last === 1) return null;
  const to = (page: number) => url(`/marketplace${addressOf({ ...asked, page })}`);
  return (
    <nav class="pages" aria-label="Pages">
      {asked.page > 1
        ? <a class="button quiet" rel="prev" href={to(asked.page - 1)}>Previous</a>
        : <span></span>}
      <span>Page {asked.page} of {last}</span>
      {asked.page < last
        ? <a class="button quiet" rel="next" href={to(asked.page + 1)}>Next</a>
        : <span></span>}
    </nav>
  );
}

export const NOTHING_ASKED: Asked = {
  query: "",
  category: "",
  runtime: "",
  source: "",
  secrets: "",
  network: "",
  deployable: "",
  verified: "",
  sort: "best",
  page: 1,
};

/** What is asked as the end of an address: what is as it would be anyhow is left out. */
export function addressOf({ query, page, sort, ...filters }: Asked): string {
  const search = new URLSearchParams();
  if (query) search.set("q", query);
  for (const [name, value] of Object.entries(filters)) if (value) search.set(name, value);
  if (sort !== "best") search.set("sort", sort);
  if (page > 1) search.set("page", String(page));
  const text = search.toString();
  return text && `?${text}`;
}

function nameOf(name: Facet, value: string, sourceNames: Record<string, string>): string {
  if (name === "source") return sourceNames[value] ?? value;
  if (name === "runtime") return registryName({ registry: value as "npm" });
  return YES_NO[name]?.[value] ?? value;
}
