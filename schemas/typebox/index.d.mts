// What this project uses of TypeBox. `npm run generate` bundles it into one file, since its hundreds of modules were most of what
// a process loaded before it began.

export * from 'typebox'
export { default } from 'typebox'
export { Compile, type Validator } from 'typebox/compile'
export { Check, Clean, Clone, Equal, Errors } from 'typebox/value'
