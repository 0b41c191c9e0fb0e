/** What is used of @napi-rs/keyring. Declared here: the package is optional. */
declare module '@napi-rs/keyring' {
  export class AsyncEntry {
    constructor(service: string, account: string, options?: { linux?: { store?: 'secret-service' | 'keyutils' } })
    getPassword(): Promise<string | null>
    setPassword(password: string): Promise<void>
    deleteCredential(): Promise<boolean>
  }
}
