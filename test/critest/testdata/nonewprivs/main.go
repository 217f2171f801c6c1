// Command nonewprivs says which user's rights it has. It is root's and setuid
// in the image that tests no_new_privs.
package main

import (
	"fmt"
	"os"
)

func main() { fmt.Printf("Effective uid: %d\n", os.Geteuid()) }
