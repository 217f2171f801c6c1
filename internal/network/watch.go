package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch tells of changes in the namespace until stop is called, which waits for
// the end of it. Changes that come before one is taken are one: after each the
// namespace is to be looked at anew.
func (n *Namespace) Watch() (changes <-chan struct{}, stop func(), err error) {
	var socket *nl.NetlinkSocket
	err = n.Do(func() (err error) {
		socket, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
			unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_NEIGH)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("watch network namespace: %w", err)
	}
	out, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(out)
		for {
			// What was said does not matter, and neither does what was lost
			// because too much was said.
			if _, _, err := socket.Receive(); err != nil && !overrun(err) {
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() { socket.Close(); <-ended }, nil
}

func overrun(err error) bool { return errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) }
