"""What leaves and enters the interfaces: frames, sockets, questions to other hosts, announcements."""
