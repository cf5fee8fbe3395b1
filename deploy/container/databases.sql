-- One database a node; the registry's is made by the image itself.
CREATE DATABASE tianjin;
CREATE DATABASE chengdu;
CREATE DATABASE suzhou;
