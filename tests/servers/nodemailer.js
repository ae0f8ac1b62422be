// Sends one message with nodemailer. Usage: nodemailer.js '{"transport": {...}, "message": {...}}'
const nodemailer = require("nodemailer");
const { transport, message } = JSON.parse(process.argv[2]);
nodemailer.createTransport(transport).sendMail(message).then(
  (sent) => console.log(sent.response),
  (error) => { console.error(error.message); process.exit(1); },
);
