/**
 * A request as the app is reached: at its base URL. The function sees another address: behind the gateway its
 * path begins with the function's name (`/app/servers` for `/functions/v1/app/servers`).
 */
export function asReached(request: Request, baseUrl: URL): Request {
  const { pathname, search } = new URL(request.url);
  const base = baseUrl.pathname.replace(/\/+$/, "");
  const inside = `/${base.split("/").at(-1) ?? ""}`;
  const isReached = base === "" || pathname === base || pathname.startsWith(`${base}/`);
  const isInside = pathname === inside || pathname.startsWith(`${inside}/`);
  const path = isReached ? pathname : base + (isInside ? pathname.slice(inside.length) : pathname);
  const url = new URL(baseUrl);
  // Set, not resolved: a path of `//elsewhere` would name another host.
  url.pathname = path;
  url.search = search;
  return new Request(url, request);
}

/** Whose request it is: the gateway puts the client's address first. */
export function clientIpOf(request: Request): string {
  return request.headers.get("x-forwarded-for")?.split(",")[0].trim() || "unknown";
}
