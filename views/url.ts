import { createContext, useContext } from "hono/jsx";

/** The path under which the app is mounted: "" at the root, `/functions/v1/app` on Supabase. */
export const BasePath = createContext("");

/** All links go through this, since a deployment may stand below a path of its own. */
export function useUrl(): (path: string) => string {
  const base = useContext(BasePath);
  return (path) => base + path;
}
