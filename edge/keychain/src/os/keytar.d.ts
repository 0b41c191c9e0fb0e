/** What is used of keytar. Declared here: the package is optional, and absent where it cannot be built. */
declare module 'keytar' {
  const keytar: {
    readonly getPassword: (service: string, account: string) => Promise<string | null>
    readonly setPassword: (service: string, account: string, password: string) => Promise<void>
    readonly deletePassword: (service: string, account: string) => Promise<boolean>
  }
  export default keytar
}
