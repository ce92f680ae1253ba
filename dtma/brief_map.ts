/**
 * A map of what is there briefly: calls under way, of which thousands come and go each second.
 *
 * V8's own `Map` and `Set` get a new table whenever the old one is full of what was deleted, and the old
 * table goes on pointing to the new one. Once a full collection has made one table old, the small
 * collections, which never look whether what is old is dead, keep all tables after it and all that was
 * ever in them: measured (Deno 2.9), an entry then costs five times as much, and a call's whole state
 * stays until the next full collection, after which it begins anew. So the map itself is made anew now
 * and then, which leaves the tables before it to nobody.
 */
export class BriefMap<K, V> {
  #map = new Map<K, V>();
  /** Entries that were added since the map was made. */
  #added = 0;

  get size(): number {
    return this.#map.size;
  }

  get(key: K): V | undefined {
    return this.#map.get(key);
  }

  set(key: K, value: V): void {
    if (this.#added++ >= RENEWED_AFTER && this.#added > this.#map.size) {
      this.#map = new Map(this.#map);
      this.#added = 0;
    }
    this.#map.set(key, value);
  }

  delete(key: K): boolean {
    return this.#map.delete(key);
  }

  keys(): IterableIterator<K> {
    return this.#map.keys();
  }

  /** In the order of their adding, as keys are. Nothing may be added while they are gone through. */
  values(): IterableIterator<V> {
    return this.#map.values();
  }

  clear(): void {
    this.#map.clear();
  }
}

/** Far fewer than come between two small collections. */
const RENEWED_AFTER = 256;
