package e2e

// mostGzipEach is how many clients have a gzip of their own.
const mostGzipEach = 500
