// @ts-check
/** What this browser keeps of a user: one IndexedDB for each, so that two people at one browser never see each other's. */

const PREFIX = "ecli-chat:";

/** @param {string | number} user */
export const databaseOf = (user) => PREFIX + user;

/** Whether anything of this user is kept here. @param {string | number} user @returns {Promise<boolean>} */
export async function isKept(user) {
  try {
    const all = await indexedDB.databases();
    return all.some((each) => each.name === databaseOf(user));
  } catch {
    return false; // a browser that keeps nothing
  }
}

/** Delete all that is kept of this user. @param {string | number} user @returns {Promise<void>} */
export function forget(user) {
  for (const key of Object.keys(sessionStorage)) {
    if (key.startsWith(databaseOf(user))) sessionStorage.removeItem(key);
  }
  return new Promise((resolve) => {
    const asked = indexedDB.deleteDatabase(databaseOf(user));
    asked.onsuccess = asked.onerror = asked.onblocked = () => resolve();
  });
}
