interface Route {
  method: string;
  path: string;
}

/**
 * The page of a form at whose own address there is none, as `/agents/x` of `/agents/x/tokens`: that address stands in
 * the browser while what did not hold is mended, or what is shown once is read, and is asked for again by who
 * reloads it there or gets their tabs back.
 *
 * @returns null where no form is sent to `path`, or no page is above it
 */
export function pageOfForm(routes: Route[], path: string): string | null {
  const isAt = (method: string, at: string) =>
    routes.some((route) => route.method === method && patternOf(route).test(at));
  if (!isAt("POST", path)) return null;
  for (let at = above(path); at !== ""; at = above(at)) if (isAt("GET", at)) return at;
  return null;
}

function above(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

function patternOf({ path }: Route): RegExp {
  return new RegExp(`^${path.replaceAll(".", "\\.").replace(/:[^/]+/g, "[^/]+")}$`);
}
