/** The examples of RFC 8785. Inputs are JSON texts, outputs their canonical form; numbers are IEEE 754 bits in hex. */
export const rfc8785 = {
  texts: [
    {
      name: 'RFC 8785 §3.2.2, §3.2.3: the sample object',
      input: String.raw`{
  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}`,
      output: String.raw`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
      /** §3.2.4: the UTF-8 bytes. */
      hex:
        '7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e' +
        '756d62657273223a5b3333333333333333332e333333333333332c31652b3330' +
        '2c342e352c302e3030322c31652d32375d2c22737472696e67223a22e282ac24' +
        '5c75303030665c6e4127425c225c5c5c5c5c222f227d',
    },
    {
      name: 'RFC 8785 §3.2.3: members sort by UTF-16 code units',
      input: String.raw`{
  "\u20ac": "Euro Sign",
  "\r": "Carriage Return",
  "\ufb33": "Hebrew Letter Dalet With Dagesh",
  "1": "One",
  "\ud83d\ude00": "Emoji: Grinning Face",
  "\u0080": "Control",
  "\u00f6": "Latin Small Letter O With Diaeresis"
}`,
      output:
        '{"\\r":"Carriage Return","1":"One","\u0080":"Control","ö":"Latin Small Letter O With Diaeresis",' +
        '"€":"Euro Sign","😀":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}',
    },
    {
      name: 'names that look like integers sort as text',
      input: '{"9":1,"10":2,"a":3}',
      output: '{"10":2,"9":1,"a":3}',
    },
    {
      name: 'a member named __proto__ is a member like others',
      input: '{"b":1,"__proto__":{"z":1,"a":2}}',
      output: '{"__proto__":{"a":2,"z":1},"b":1}',
    },
    { name: 'empty', input: ' { "b" : { } , "a" : [ ] } ', output: '{"a":[],"b":{}}' },
  ],
  /** Appendix B. `text` is null where the number cannot be serialized. */
  numbers: [
    { bits: '0000000000000000', text: '0' },
    { bits: '8000000000000000', text: '0' },
    { bits: '0000000000000001', text: '5e-324' },
    { bits: '8000000000000001', text: '-5e-324' },
    { bits: '7fefffffffffffff', text: '1.7976931348623157e+308' },
    { bits: 'ffefffffffffffff', text: '-1.7976931348623157e+308' },
    { bits: '4340000000000000', text: '9007199254740992' },
    { bits: 'c340000000000000', text: '-9007199254740992' },
    { bits: '4430000000000000', text: '295147905179352830000' },
    { bits: '7fffffffffffffff', text: null },
    { bits: '7ff0000000000000', text: null },
    { bits: '44b52d02c7e14af5', text: '9.999999999999997e+22' },
    { bits: '44b52d02c7e14af6', text: '1e+23' },
    { bits: '44b52d02c7e14af7', text: '1.0000000000000001e+23' },
    { bits: '444b1ae4d6e2ef4e', text: '999999999999999700000' },
    { bits: '444b1ae4d6e2ef4f', text: '999999999999999900000' },
    { bits: '444b1ae4d6e2ef50', text: '1e+21' },
    { bits: '3eb0c6f7a0b5ed8c', text: '9.999999999999997e-7' },
    { bits: '3eb0c6f7a0b5ed8d', text: '0.000001' },
    { bits: '41b3de4355555553', text: '333333333.3333332' },
    { bits: '41b3de4355555554', text: '333333333.33333325' },
    { bits: '41b3de4355555555', text: '333333333.3333333' },
    { bits: '41b3de4355555556', text: '333333333.3333334' },
    { bits: '41b3de4355555557', text: '333333333.33333343' },
    { bits: 'becbf647612f3696', text: '-0.0000033333333333333333' },
    { bits: '43143ff3c1cb0959', text: '1424953923781206.2' },
  ],
}
